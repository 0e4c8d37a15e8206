use super::*;

fn tree(files: &[(&str, u32)]) -> (tempfile::TempDir, Settings) {
    let directory = tempfile::tempdir().unwrap();
    for (path, value) in files {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, format!("{value}\n")).unwrap();
    }
    let net = directory.path().to_owned();
    (directory, Settings { net })
}

#[test]
fn other_interfaces_keep_the_reverse_path_filter_that_all_of_them_had() {
    let (_directory, settings) = tree(&[
        ("ipv4/conf/all/rp_filter", 1),
        ("ipv4/conf/default/rp_filter", 0),
        ("ipv4/conf/eth1/rp_filter", 0),
        ("ipv4/conf/eth2/rp_filter", 2),
        ("ipv4/conf/loc0/rp_filter", 0),
        ("ipv4/conf/all/send_redirects", 0),
        ("ipv4/conf/eth1/send_redirects", 0),
        ("ipv4/conf/loc0/send_redirects", 1),
        ("ipv4/conf/loc0/accept_local", 0),
        ("ipv4/conf/loc0/forwarding", 0),
    ]);
    settings.allow_ipv4("loc0");
    let value = |path: &str| get(&settings.net.join("ipv4/conf").join(path)).unwrap();
    let filters = ["all", "default", "eth1", "eth2", "loc0"].map(|name| value(&format!("{name}/rp_filter")));
    assert_eq!(filters, [0, 1, 1, 2, 0]);
    assert_eq!(["all", "eth1", "loc0"].map(|name| value(&format!("{name}/send_redirects"))), [0, 0, 0]);
    assert_eq!((value("loc0/accept_local"), value("loc0/forwarding")), (1, 1));
}

#[test]
fn a_router_that_heard_advertisements_goes_on_hearing_them() {
    let (_directory, settings) = tree(&[("ipv6/conf/all/forwarding", 0), ("ipv6/conf/loc0/accept_ra", 1)]);
    settings.allow_ipv6("loc0");
    let value = |path: &str| get(&settings.net.join("ipv6/conf").join(path)).unwrap();
    assert_eq!((value("all/forwarding"), value("loc0/accept_ra")), (1, 2));
}

#[test]
fn the_other_interfaces_stay_hosts_interfaces() {
    let paths = ["all", "default", "eth1", "eth2", "loc0"].map(|name| format!("ipv6/conf/{name}/forwarding"));
    let files: Vec<(&str, u32)> = paths.iter().map(String::as_str).zip([0, 0, 0, 1, 0]).collect();
    let (_directory, settings) = tree(&files);
    settings.allow_ipv6("loc0");
    // `all` changes every interface's own value in a kernel, and no file of this tree.
    assert_eq!(paths.map(|path| get(&settings.net.join(path)).unwrap()), [1, 0, 0, 1, 0]);
}

#[test]
fn a_kernel_that_can_forwards_from_one_interface_alone() {
    let (_directory, settings) =
        tree(&[("ipv6/conf/all/forwarding", 0), ("ipv6/conf/loc0/force_forwarding", 0)]);
    settings.allow_ipv6("loc0");
    let value = |path: &str| get(&settings.net.join("ipv6/conf").join(path)).unwrap();
    assert_eq!((value("all/forwarding"), value("loc0/force_forwarding")), (0, 1));
}

#[test]
fn what_is_set_for_the_nics_interface_is_not_undone() {
    let (_directory, settings) = tree(&[
        ("ipv4/conf/all/rp_filter", 2),
        ("ipv4/conf/eth0/rp_filter", 0),
        ("ipv4/conf/eth1/rp_filter", 0),
        ("ipv4/conf/loc0/rp_filter", 0),
    ]);
    settings.leave_alone("eth0");
    settings.allow_ipv4("loc0");
    let value = |name: &str| get(&settings.net.join("ipv4/conf").join(name).join("rp_filter")).unwrap();
    assert_eq!(["all", "eth0", "eth1", "loc0"].map(value), [0, 1, 2, 0]);
}

#[test]
fn the_kernel_ignores_what_a_port_reads() {
    let (_directory, settings) = tree(&[
        ("ipv4/conf/eth0/rp_filter", 0),
        ("ipv4/conf/eth0/arp_ignore", 0),
        ("ipv6/conf/eth0/disable_ipv6", 0),
    ]);
    settings.leave_alone("eth0");
    let paths = ["ipv4/conf/eth0/rp_filter", "ipv4/conf/eth0/arp_ignore", "ipv6/conf/eth0/disable_ipv6"];
    assert_eq!(paths.map(|path| get(&settings.net.join(path)).unwrap()), [1, 8, 1]);
}

#[test]
fn an_interface_that_is_not_there_is_named() {
    let error = Interface::named("bt-nothing0").unwrap_err();
    assert!(error.to_string().contains("`bt-nothing0`"), "{error}");
}
