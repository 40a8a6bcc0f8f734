//! How fields are read and written.

/// 32-byte fields whose errors name the field and the length found.
pub mod named {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer};

    macro_rules! fields {
        ($($name:ident),*) => {$(
            pub fn $name<'de, D: Deserializer<'de>>(input: D) -> Result<[u8; 32], D::Error> {
                let bytes = Vec::<u8>::deserialize(input)?;
                let found = bytes.len();
                bytes.try_into().map_err(|_| {
                    let name = stringify!($name);
                    D::Error::custom(format_args!("{name}: {found} bytes found, 32 expected"))
                })
            }
        )*};
    }

    fields!(prover_id, ticket, seed, comm_r, comm_d, comm_r_old, comm_r_new, comm_d_new);
}

/// Byte strings as base64 (with padding, as Go's `[]byte` in JSON).
pub mod base64_list {
    use base64::prelude::{Engine, BASE64_STANDARD};
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(list: &[Vec<u8>], output: S) -> Result<S::Ok, S::Error> {
        output.collect_seq(list.iter().map(|bytes| BASE64_STANDARD.encode(bytes)))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<Vec<u8>>, D::Error> {
        let decode = |(index, text): (usize, String)| {
            BASE64_STANDARD
                .decode(text)
                .map_err(|error| D::Error::custom(format_args!("proofs[{index}]: {error}")))
        };
        let texts = Vec::<String>::deserialize(input)?;
        texts.into_iter().enumerate().map(decode).collect()
    }
}
