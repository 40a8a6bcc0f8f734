//! Cores, nodes and huge pages of recorded machines.

mod common;

use std::fs;
use std::path::Path;

use common::{epyc_two_nodes, write};
use sdr::arena::{report, HugePages, GIB_PAGE, MIB2_PAGE};
use sdr::topology::{cores, numa_nodes, parse_list, Core};

#[test]
fn siblings_share_a_core_and_each_core_knows_its_node_and_cache() {
    let system = epyc_two_nodes();
    let all: Vec<u32> = (0..16).collect();
    let found = cores(system.path(), &all).unwrap();
    let expected: Vec<_> = (0..8)
        .map(|cpu| Core {
            cpu,
            node: Some(cpu / 4),
            cache: Some(cpu / 2 * 2),
        })
        .collect();
    assert_eq!(found, expected);
    assert_eq!(numa_nodes(system.path()), [0, 1]);
}

#[test]
fn only_allowed_cpus_count_and_the_first_allowed_sibling_is_taken() {
    let system = epyc_two_nodes();
    // CPU 2 and its sibling 10, CPU 13 whose sibling 5 is not allowed.
    let found = cores(system.path(), &[13, 10, 2]).unwrap();
    assert_eq!(
        found,
        [
            Core {
                cpu: 2,
                node: Some(0),
                cache: Some(2)
            },
            Core {
                cpu: 13,
                node: Some(1),
                cache: Some(4)
            }
        ]
    );
    assert!(cores(system.path(), &[]).is_err());
}

#[test]
fn a_machine_that_hides_its_topology_has_a_core_per_cpu_and_no_nodes() {
    let system = tempfile::tempdir().unwrap();
    let found = cores(system.path(), &[0, 1]).unwrap();
    let expected = [0, 1].map(|cpu| Core {
        cpu,
        node: None,
        cache: None,
    });
    assert_eq!(found, expected);
}

#[test]
fn kernel_lists_are_read() {
    assert_eq!(
        parse_list("0-3,8,10-11\n").unwrap(),
        [0, 1, 2, 3, 8, 10, 11]
    );
    assert_eq!(parse_list("\n").unwrap(), [0; 0]);
    let error = parse_list("0-x").unwrap_err().to_string();
    assert!(error.contains("0-x"), "{error}");
}

#[test]
fn huge_pages_are_reported_per_node_and_size_with_the_command_for_more() {
    let system = epyc_two_nodes();
    let found = report(system.path());
    let counts: Vec<_> = found
        .iter()
        .map(|pages| (pages.node, pages.page, pages.total, pages.free))
        .collect();
    let expected = [
        (Some(0), GIB_PAGE, 64, 10),
        (Some(0), MIB2_PAGE, 0, 0),
        (Some(1), GIB_PAGE, 64, 64),
        (Some(1), MIB2_PAGE, 0, 0),
    ];
    assert_eq!(counts, expected);
    let text = found[0].too_few(32);
    assert!(
        text.contains(
            "1 GiB on NUMA node 0: 32 needed for the two label buffers of a sector, 10 of 64 free"
        ),
        "{text}"
    );
    let file = "node0/hugepages/hugepages-1048576kB/nr_hugepages";
    assert!(
        text.contains("echo 86 > ") && text.ends_with(file),
        "{text}"
    );
}

#[test]
fn without_nodes_the_machines_counts_are_read() {
    let system = tempfile::tempdir().unwrap();
    assert_eq!(HugePages::read(system.path(), MIB2_PAGE, None), None);
    let dir = Path::new("kernel/mm/hugepages/hugepages-2048kB");
    write(system.path(), dir.join("nr_hugepages"), "7\n");
    write(system.path(), dir.join("free_hugepages"), "5\n");
    let found = HugePages::read(system.path(), MIB2_PAGE, None).unwrap();
    assert_eq!((found.total, found.free), (7, 5));
    fs::remove_dir_all(system.path().join("kernel")).unwrap();
}
