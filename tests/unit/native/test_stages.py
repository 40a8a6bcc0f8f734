"""Stages through the extension: the protocol's JSON in and out, and failures as exceptions."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from damocles_worker import _native
from damocles_worker._native import StageError
from damocles_worker.processors.explain import explain, names_damaged_layer
from damocles_worker.processors.tasks import ClearCacheTask, PieceSource, VerifySealTask
from damocles_worker.sectors import zero_commitment

from .sector import PROOF, SEED, SIZE, TICKET, Sector, document


@pytest.fixture
def sector(tmp_path: Path) -> Sector:
    return Sector(tmp_path)


def test_a_sector_without_deals_from_staging_to_vanilla_proofs(sector: Sector) -> None:
    pieces = sector.stage_zeros()
    assert [bytes(piece.commitment) for piece in pieces] == [zero_commitment(2032)]

    pc1out = _native.pc1(sector.pc1_task(pieces))
    cache = str(sector.cache)
    layers = [{"path": cache, "id": f"layer-{n}", "size": 64, "rows_to_discard": 0} for n in (1, 2)]
    assert document(pc1out) == {
        "registered_proof": PROOF,
        "labels": {"StackedDrg2KiBV1": {"labels": layers, "_h": None}},
        "config": {"path": cache, "id": "tree-d", "size": 127, "rows_to_discard": 0},
        "comm_d": pieces[0].commitment,
    }

    pc2out = _native.pc2(sector.pc2_task(pc1out))
    assert list(document(pc2out)) == ["registered_proof", "comm_r", "comm_d"]
    assert document(pc2out)["comm_r"][:4] == [166, 39, 76, 133]

    c1out = document(_native.c1(sector.c1_task(pc2out, pieces)))
    assert list(c1out) == [
        "registered_proof",
        "vanilla_proofs",
        "comm_r",
        "comm_d",
        "replica_id",
        "seed",
        "ticket",
    ]
    assert (c1out["seed"], c1out["ticket"]) == (SEED, TICKET)
    assert list(c1out["vanilla_proofs"]) == ["StackedDrg2KiBV1"]

    _native.clear_cache(msgspec.json.encode(ClearCacheTask(PROOF, cache)))
    assert sorted(path.name for path in sector.cache.iterdir()) == [
        "p_aux",
        "sc-02-data-tree-r-last.dat",
        "t_aux",
    ]


def test_comm_d_of_pieces_is_the_root_of_their_tree_d(sector: Sector, tmp_path: Path) -> None:
    sources = []
    for index, payload in enumerate((b"deal" * 100, bytes(range(256)) * 3)):
        path = tmp_path / f"piece-{index}"
        path.write_bytes(payload)
        sources.append(PieceSource({"local": str(path)}, len(payload), 1016))
    infos = msgspec.json.decode(_native.add_pieces(sector.add_pieces_task(sources)))
    _native.tree_d(sector.tree_d_task())

    commitments = [bytes(info["commitment"]) for info in infos]
    assert commitments == [
        _native.piece_commitment(tmp_path / f"piece-{index}", source.payload_size, 1016)
        for index, source in enumerate(sources)
    ]
    root = (sector.cache / "sc-02-data-tree-d.dat").read_bytes()[-32:]
    assert _native.data_commitment(SIZE, [(commitment, 1016) for commitment in commitments]) == root
    assert root != zero_commitment(2032)


def test_static_tree_d_is_the_tree_of_zeros(sector: Sector, tmp_path: Path) -> None:
    sector.stage_zeros()
    static = tmp_path / "static"
    static.mkdir()
    _native.static_tree_d(SIZE, static)
    name = "sc-02-data-tree-d.dat"
    assert (static / name).read_bytes() == (sector.cache / name).read_bytes()


def test_a_truncated_staged_file_is_named_with_both_sizes(sector: Sector) -> None:
    pieces = sector.stage_zeros()
    with sector.staged.open("r+b") as staged:
        staged.truncate(1000)
    with pytest.raises(StageError) as failure:
        _native.pc1(sector.pc1_task(pieces))
    assert str(failure.value) == f"staged file {sector.staged}: 1000 bytes found, 2048 expected"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (b"{", "pc1 task: EOF while parsing an object at line 1 column 1"),
        (b"{}", "pc1 task: missing field `registered_proof` at line 1 column 2"),
        (
            b'{"registered_proof":"StackedDrg1KiBV1"}',
            "pc1 task: unknown variant `StackedDrg1KiBV1`, expected one of ",
        ),
        (b'{"ticket":[1,2]}', "pc1 task: ticket: 2 bytes found, 32 expected at line 1 column 16"),
    ],
)
def test_a_task_that_can_not_be_read_is_explained(task: bytes, message: str) -> None:
    with pytest.raises(StageError) as failure:
        _native.pc1(task)
    assert str(failure.value).startswith(message)


def test_a_panic_of_the_library_is_an_error(
    sector: Sector, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library unwraps a size that a PC1 output can lack."""
    monkeypatch.setenv("DAMOCLES_PC2_ENGINE", "crate")
    pc1out = document(_native.pc1(sector.pc1_task(sector.stage_zeros())))
    pc1out["config"]["size"] = None
    with pytest.raises(StageError) as failure:
        _native.pc2(sector.pc2_task(msgspec.json.encode(pc1out)))
    assert str(failure.value) == "panic: disk store size not configured"
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("panic at ")
    assert captured.err.endswith(": disk store size not configured\n")


@pytest.mark.parametrize("engine", ["pc2", "crate"])
@pytest.mark.parametrize("damage", ["flipped", "short", "missing"])
def test_a_layer_that_rotted_after_pc1_is_told_as_one_by_either_engine(
    sector: Sector, monkeypatch: pytest.MonkeyPatch, engine: str, damage: str
) -> None:
    """The worker goes back to PC1 by this text. The library alone takes a flipped layer for a good one."""
    monkeypatch.setenv("DAMOCLES_PC2_ENGINE", engine)
    pc1out = _native.pc1(sector.pc1_task(sector.stage_zeros()))
    layer = sector.cache / "sc-02-data-layer-2.dat"
    labels = bytearray(layer.read_bytes())
    labels[1000] ^= 1
    layer.unlink()
    if damage != "missing":
        layer.write_bytes(labels if damage == "flipped" else labels[:-32])
    with pytest.raises(StageError) as failure:
        _native.pc2(sector.pc2_task(pc1out))
    assert str(failure.value).startswith(f"label layer 2 {layer}: ")
    assert names_damaged_layer(explain("builtin PC2", str(failure.value)))
    assert not (sector.cache / "p_aux").exists()


@pytest.mark.parametrize("proof", [b"", bytes(192), b"\xff" * 192, bytes(191)])
def test_bytes_that_are_no_proof_do_not_verify(proof: bytes) -> None:
    task = VerifySealTask(
        registered_proof=PROOF,
        comm_r=[1] * 32,
        comm_d=list(zero_commitment(2032)),
        prover_id=[0] * 32,
        sector_id=1,
        ticket=TICKET,
        seed=SEED,
        proof=list(proof),
    )
    assert _native.verify_seal(msgspec.json.encode(task)) is False


def test_data_commitment_refuses_what_does_not_fit() -> None:
    with pytest.raises(StageError, match=r"piece 1: ends at byte 4096 \(padded\), the sector has 2048"):
        _native.data_commitment(SIZE, [(bytes(32), 1016), (bytes(32), 2032)])
    with pytest.raises(StageError, match="sector size 4096: expected one of"):
        _native.data_commitment(4096, [])


def test_version_info_names_what_it_was_built_from() -> None:
    info = _native.version_info()
    lock = (Path(__file__).parents[3] / "Cargo.lock").read_text()
    for crate in ("filecoin-proofs-api", "bellperson", "blst"):
        assert f'name = "{crate}"\nversion = "{info[crate]}"\n' in lock
    assert info["profile"] == "release"
    assert info["gpu"] == "none"
    flags = set(Path("/proc/cpuinfo").read_text().split())
    assert ("sha" in info["cpu_features"].split()) == ("sha_ni" in flags)
