//! From key and data to replica, node by node.

use field::canonical;
use field::fr::Fr;
use poseidon::Node;

/// How data is encoded with a key.
pub enum Encoding<'a> {
    /// replica = key + data.
    Seal,
    /// replica = key + data · factor. The sector's nodes are shared out evenly among the factors, in order.
    Update {
        factors: &'a [Fr],
        /// Nodes of the sector.
        nodes: u64,
    },
}

impl Encoding<'_> {
    /// Encodes the data in place of the key, where the first of both is node `first` of the sector. All of
    /// them are field elements.
    pub fn encode(&self, first: u64, key: &mut [Node], data: &[Node]) {
        match self {
            Encoding::Seal => {
                for (key, data) in key.iter_mut().zip(data) {
                    canonical::add(key, data);
                }
            }
            Encoding::Update { factors, nodes } => {
                let share = nodes / factors.len() as u64;
                for ((key, data), node) in key.iter_mut().zip(data).zip(first..) {
                    let data = Fr::from_number(data).expect("a field element");
                    let product = data.mul(&factors[(node / share) as usize]);
                    canonical::add(key, &product.to_number());
                }
            }
        }
    }
}
