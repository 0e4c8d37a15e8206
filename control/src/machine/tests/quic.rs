//! How servers make QUIC connection IDs: in the DPT, at displays and at backups.

use model::Protocol;
use model::codec::{self, Received};
use model::peer::{Definition, Definitions, ToPeer};
use model::quic::{Configuration, Key};

use super::super::fixture::{Bench, config, name};
use super::super::peers::UNHEARD;
use super::super::{Action, Event};

const OTHER: &str = "[[routing_stack]]\nname = \"rt2\"\naddress = \"198.18.0.11:7441\"\n";
const DEFINED: &str = "[[vipadynamic.vipadefine]]\naddress = \"198.18.9.1\"\nmask = 24\n";
const BACKUP: &str = "[[vipadynamic.vipabackup]]\naddress = \"198.18.9.1\"\nrank = 100\n";
const QUIC: &str = r#"
[[vipadynamic.vipadistribute]]
address = "198.18.9.1"
ports = [443]
protocol = "udp"
destip = ["t1", "t2"]
[[vipadynamic.vipadistribute.quic]]
rotation = 0
server_id_bytes = 4
nonce_bytes = 6
[[vipadynamic.vipadistribute.quic]]
rotation = 5
server_id_bytes = 2
nonce_bytes = 14
key = "quic.key"
server_ids = { t1 = ["0a01", "0b01"], t2 = "0a02" }
"#;

fn bench(tables: &str) -> Bench {
    Bench::new(&format!("{OTHER}[[vipadynamic]]\n{tables}"))
}

/// What the DPT says of the service.
fn configurations(bench: &mut Bench) -> Vec<Configuration> {
    bench.actions();
    let dpt = bench.stack.dpt();
    dpt.distributions.first().map(|row| row.quic.to_vec()).unwrap_or_default()
}

/// What `rt2` is told, as it comes there.
fn told(bench: &mut Bench) -> Definition {
    bench.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
    let told = bench.actions().into_iter().find_map(|action| match action {
        Action::Tell { message: message @ ToPeer::Definitions(_), .. } => Some(message),
        _ => None,
    });
    let frame = codec::encode(&told.expect("definitions")).unwrap();
    let (header, body) = frame.split_first_chunk().unwrap();
    let read = codec::decode_body(codec::decode_header(*header).unwrap(), body).unwrap();
    let Received::Message(ToPeer::Definitions(said)) = read else { panic!("{read:?}") };
    said.dvipas[0].clone()
}

#[test]
fn the_dpt_has_what_the_definition_says_and_displays_show_the_server_ids() {
    let mut bench = bench(&format!("{DEFINED}{QUIC}"));
    bench.wait(UNHEARD);
    assert_eq!(configurations(&mut bench).iter().map(|c| c.rotation).collect::<Vec<_>>(), [0, 5]);
    let view = bench.stack.dpt_view(bench.now);
    let ids = |target: usize| {
        let ids = view.services[0].targets[target].server_ids.iter();
        ids.map(|of| format!("{}:{}", of.rotation, of.id)).collect::<Vec<_>>()
    };
    assert_eq!(ids(0), ["0:628b49d9", "5:0a01", "5:0b01"], "also of a stack that was never seen");
    assert_eq!(ids(1)[1..], ["5:0a02"]);
    let other = format!("{OTHER}[[vipadynamic]]\n{DEFINED}{}", QUIC.replace("rotation = 5", "rotation = 6"));
    bench.handle(Event::Configure(Box::new(config(&other)))).unwrap();
    assert_eq!(configurations(&mut bench)[1].rotation, 6, "a reload puts it in force");
}

#[test]
fn a_backup_reads_connection_ids_as_the_primary_does_and_not_what_can_not_be_one() {
    let mut primary = bench(&format!("{DEFINED}{QUIC}"));
    let mut said = told(&mut primary);
    assert_eq!(said.distributes[0].quic[..], configurations(&mut primary)[..]);
    said.distributes[0].quic[1].key = Some(Key([7; 16]));
    said.owner = true;
    let known = |change: &dyn Fn(&mut Definition)| {
        let mut backup = bench(BACKUP);
        backup.handle(Event::PeerUp { stack: name("rt2") }).unwrap();
        let mut said = said.clone();
        change(&mut said);
        let message = ToPeer::Definitions(Definitions { dvipas: vec![said], ..Definitions::default() });
        backup.handle(Event::PeerMessage { from: name("rt2"), message }).unwrap();
        let configurations = configurations(&mut backup);
        assert_eq!(backup.stack.dpt().distributions.len(), 1, "it is distributed in any case");
        configurations
    };
    assert_eq!(known(&|_| ()), said.distributes[0].quic);
    assert_eq!(known(&|said| said.distributes[0].quic[0].rotation = 7), [], "by flows");
    assert_eq!(known(&|said| said.distributes[0].quic[0].server_id_bytes = 200), []);
    assert_eq!(known(&|said| said.distributes[0].protocol = Protocol::Tcp), []);
}
