//! Outputs have the JSON of the external-processor protocol.

use crate::sector::Sector;
use filecoin_proofs_api::RegisteredSealProof::{
    StackedDrg2KiBV1_1, StackedDrg2KiBV1_1_Feat_SyntheticPoRep,
};
use proofs::{SealCommitPhase1Output, SealPreCommitPhase1Output};
use serde_json::{json, to_value, Value};

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

#[test]
fn pc1_output_is_keyed_by_the_size_variant_whatever_the_proof_version() {
    for proof in [StackedDrg2KiBV1_1, StackedDrg2KiBV1_1_Feat_SyntheticPoRep] {
        let sector = Sector::new(proof);
        let infos = sector.add_pieces(vec![]);
        assert_eq!(keys(&to_value(&infos[0]).unwrap()), ["commitment", "size"]);
        sector.tree_d();
        let output = sector.pc1(&infos);
        let cache = sector.cache();
        let layer = |n: u8| json!({"path": cache, "id": format!("layer-{n}"), "size": 64, "rows_to_discard": 0});
        let expected = json!({
            "registered_proof": format!("{proof:?}"),
            "labels": {"StackedDrg2KiBV1": {"labels": [layer(1), layer(2)], "_h": null}},
            "config": {"path": cache, "id": "tree-d", "size": 127, "rows_to_discard": 0},
            "comm_d": infos[0].commitment,
        });
        assert_eq!(to_value(&output).unwrap(), expected);

        let mut without_phantom = expected;
        without_phantom["labels"]["StackedDrg2KiBV1"]
            .as_object_mut()
            .unwrap()
            .remove("_h");
        let error =
            serde_json::from_value::<SealPreCommitPhase1Output>(without_phantom).unwrap_err();
        assert_eq!(error.to_string(), "missing field `_h`");
    }
}

#[test]
fn the_commitments_of_a_known_sector_are_the_recorded_ones() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let infos = sector.add_pieces(vec![]);
    sector.tree_d();
    let output = to_value(sector.pc2(sector.pc1(&infos))).unwrap();
    assert_eq!(output["registered_proof"], "StackedDrg2KiBV1_1");
    assert_eq!(
        output["comm_d"].as_array().unwrap()[..4],
        [252, 126, 146, 130]
    );
    assert_eq!(
        output["comm_r"].as_array().unwrap()[..4],
        [166, 39, 76, 133]
    );
}

#[test]
fn c1_output_goes_through_json_unchanged() {
    let sector = Sector::new(StackedDrg2KiBV1_1);
    let (_, output) = sector.seal(vec![]);
    let text = serde_json::to_string(&output).unwrap();
    let again: SealCommitPhase1Output = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);

    let order: Vec<usize> = [
        "registered_proof",
        "vanilla_proofs",
        "comm_r",
        "comm_d",
        "replica_id",
        "seed",
        "ticket",
    ]
    .iter()
    .map(|key| text.rfind(&format!("\"{key}\":")).unwrap())
    .collect();
    assert!(order.is_sorted(), "{order:?}");

    let value: Value = serde_json::from_str(&text).unwrap();
    let challenge = &value["vanilla_proofs"]["StackedDrg2KiBV1"][0][0];
    assert!(challenge["comm_d_proofs"]["data"]["Single"].is_object());
    let columns = &challenge["replica_column_proofs"];
    assert_eq!(columns["c_x"]["column"]["_h"], Value::Null);
    assert_eq!(columns["drg_parents"].as_array().unwrap().len(), 6);
    assert_eq!(columns["exp_parents"].as_array().unwrap().len(), 8);
    assert_eq!(challenge["labeling_proofs"].as_array().unwrap().len(), 2);
}
