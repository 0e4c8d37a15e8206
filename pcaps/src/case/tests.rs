use super::*;

const CASE: &str = r#"
sentence = "It works."
source = "RFC 1"

[node]
cluster_address = ["198.18.0.10"]
mac = "02:00:00:00:00:10"
fabric_mtu = 1500

[[dvipa]]
address = "198.18.9.1"

[[stack]]
name = "t1"
cluster_address = ["198.18.0.21"]
encapsulation = "gue"

[[distribution]]
dvipa = "198.18.9.1"
port = 80
protocol = "tcp"
method = "maglev"
targets = [{ stack = "t1", weight = 1 }]

[[step]]
at_ms = 1
packet = "nic"
counts = ["forwarded"]
"#;

/// The case after a change, as far as it can be used.
fn used(from: &str, to: &str) -> Result<Case, CaseError> {
    assert!(CASE.contains(from), "{from} is in the example");
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("case.toml"), CASE.replace(from, to)).unwrap();
    let case = Case::read(directory.path())?;
    case.dpt()?;
    case.known()?;
    Ok(case)
}

#[test]
fn a_mistake_is_reported_with_file_and_key() {
    let mistakes = [
        ("fabric_mtu", "mtu", "mtu"),
        ("02:00:00:00:00:10", "02:00", "`02:00` is not a link-layer address"),
        ("packet = \"nic\"", "packet = \"eth0\"", "eth0"),
        ("packet = \"nic\"", "tick = true\npacket = \"nic\"", "step[0]: say one of"),
        ("stack = \"t1\"", "stack = \"t9\"", "distribution[0].targets: there is no stack `t9`"),
        ("dvipa = \"198.18.9.1\"", "dvipa = \"198.18.9.2\"", "distribution[0]: there is no DVIPA 198.18.9.2"),
        (
            "cluster_address = [\"198.18.0.21\"]",
            "cluster_address = []",
            "stack[0].cluster_address: give at least one",
        ),
    ];
    for (from, to, wanted) in mistakes {
        let said = used(from, to).expect_err(to).to_string();
        assert!(said.contains("case.toml") && said.contains(wanted), "{said}");
    }
}

#[test]
fn a_connection_is_read_as_it_is_shown() {
    for text in ["tcp 198.18.0.2:40000 -> 198.18.9.1:80", "udp [2001:db8::2]:40000 -> [2001:db8:9::1]:53"] {
        assert_eq!(text.parse::<ConnectionText>().unwrap().0.to_string(), text);
    }
    for text in ["tcp 198.18.0.2:40000", "sctp 198.18.0.2:1 -> 198.18.9.1:2", "tcp 198.18.0.2:1 -> [::1]:2"] {
        assert!(text.parse::<ConnectionText>().is_err(), "{text}");
    }
}

#[test]
fn a_good_case_is_taken() {
    let case = used("sentence", "sentence").unwrap();
    assert_eq!(case.step[0].what(), Ok(What::Packet(Port::Nic)));
    assert_eq!(case.dpt().unwrap().distributions.len(), 1);
}
