//! PostgreSQL behind one DVIPA: the router of `examples/postgresql/` reads which database a client wants, and the connection
//! moves to the unmodified server that has it. The clients are psql and pgbench.

use std::fs;
use std::os::unix::fs::chown;

use lab::spec::{self, DVIPA};
use lab::{Lab, Spec};
use nix::unistd::User;

use crate::fixture::SOON;

/// Where Debian's package has the server's programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";
const PORT: u16 = 5432;

/// A lab with a database `north` on t1 and one `south` on t2, and the router before them.
fn routed() -> Lab {
    let tables = spec::both_families(&format!("ports = [{PORT}]\ndestip = \"all\"\ncontent_routed = true"));
    let lab = crate::fixture::lab(Spec::content_routed().vipadynamic(tables));
    for (database, stack) in [("north", "t1"), ("south", "t2")] {
        start_server(&lab, stack);
        let sql = format!(
            "create database {database}; \\c {database}\n\
             create table place (name text); insert into place values ('{database} at {stack}')"
        );
        at_server(&lab, stack, &format!("printf '%s\\n' \"{sql}\" | psql -q -v ON_ERROR_STOP=1 postgres"));
    }
    let (v4, v6) = (DVIPA.0.to_string(), DVIPA.1.to_string());
    let port = PORT.to_string();
    let words = [
        "postgresql",
        "router",
        &port,
        &v4,
        &v6,
        "--",
        "north=listener@t1",
        "south=listener@t2",
        "gone=listener@t3",
    ];
    lab.start_application("rt1", "router", &words).expect("the router starts");
    lab.wait_for_targets(PORT, &["rt1"]).unwrap_or_else(|e| panic!("{e}"));
    lab
}

/// Not root, which it refuses to be.
const BECOME_USER: [&str; 5] =
    ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", "--reset-env"];

/// Starts a PostgreSQL as it comes from Debian, with a cluster of its own.
pub(crate) fn start_server(lab: &Lab, stack: &str) {
    let words = ["initdb", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync", "--no-instructions"];
    start_server_with(lab, stack, &words);
}

/// Starts a PostgreSQL with the data that a program of it makes with these arguments. In an IPC namespace of its own, so that its shared
/// memory goes with it.
pub(crate) fn start_server_with(lab: &Lab, stack: &str, words: &[&str]) {
    let user = User::from_name("postgres").expect("users are known").expect("the package makes it");
    let home = lab.files().join(format!("postgresql-{stack}"));
    fs::create_dir_all(&home).expect("a directory");
    chown(&home, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("it is given to the server");
    let (home, port) = (home.display().to_string(), PORT.to_string());
    let data = format!("{home}/data");
    let program = format!("{PROGRAMS}/{}", words.first().copied().unwrap_or_default());
    let words = [&BECOME_USER[..], &[&program, "-D", &data], words.get(1..).unwrap_or_default()].concat();
    lab.host(stack).run(&words).unwrap_or_else(|e| panic!("{e}"));
    let (server, sockets) = (format!("{PROGRAMS}/postgres"), format!("unix_socket_directories={home}"));
    let words =
        [&server, "-D", &data, "-p", &port, "-c", "listen_addresses=*", "-c", &sockets, "-c", "fsync=off"];
    // Clients of the lab connect from its client.
    let trust = format!("{data}/pg_hba.conf");
    fs::write(trust, "local all all trust\nhost all,replication all all trust\n")
        .expect("its clients are trusted");
    let words = [&["unshare", "--ipc"], &BECOME_USER[..], &words].concat();
    lab.start_on(stack, &format!("postgres-{stack}"), &words).expect("the server starts");
    lab.wait_for(&format!("the PostgreSQL of {stack}"), SOON, || {
        let ready = lab.host(stack).run(&["pg_isready", "-q", "-h", &home]);
        ready.map(drop).map_err(|e| e.to_string())
    })
    .unwrap_or_else(|e| panic!("{e}"));
}

/// What a script prints that runs beside a server.
fn at_server(lab: &Lab, stack: &str, script: &str) -> String {
    let home = lab.files().join(format!("postgresql-{stack}"));
    let script = format!("export PGHOST={} PGUSER=postgres; {script}", home.display());
    lab.host(stack).sh(&script).unwrap_or_else(|e| panic!("{e}"))
}

/// What a script prints at the client, both outputs.
fn at_client(lab: &Lab, script: &str) -> String {
    let script = format!("export PGUSER=postgres PGCONNECT_TIMEOUT=20; ({script}) 2>&1");
    lab.client().sh(&script).unwrap_or_else(|e| panic!("{e}"))
}

/// C3, C7, C8, F2: the start-up message decides; a server that knows nothing of baton has the connection and answers.
#[test]
#[ignore = "needs root"]
fn the_database_decides_which_server_has_the_connection() {
    let lab = routed();
    let watch = lab.capture("client", "eth0", &format!("tcp port {PORT}")).expect("a capture");
    for dvipa in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
        let psql = format!("PGSSLMODE=prefer psql -h {dvipa} -Atc");
        let place = "\"select name from place\"";
        assert_eq!(at_client(&lab, &format!("{psql} {place} north")), "north at t1\n");
        assert_eq!(at_client(&lab, &format!("{psql} {place} south")), "south at t2\n");
        let unknown = at_client(&lab, &format!("{psql} 'select 1' nowhere || true"));
        assert!(unknown.contains("FATAL:  database \"nowhere\" does not exist"), "{unknown}");
        let gone = at_client(&lab, &format!("{psql} 'select 1' gone || true"));
        assert!(gone.contains("FATAL:  the server of this database can't be reached now"), "{gone}");
        let cancelled = format!("timeout -s INT 1 {psql} 'select pg_sleep(15)' south || true");
        let cancelled = at_client(&lab, &cancelled.replace("PGSSLMODE=prefer psql", "psql"));
        assert!(cancelled.contains("ERROR:  canceling statement due to user request"), "{cancelled}");
    }
    let lines = watch.stop().and_then(|c| c.packets(&format!("tcp port {PORT}"))).expect("the capture ends");
    assert!(lines.iter().all(|l| !l.contains("Flags [R")), "no RST: {lines:#?}");
    let counts = lab.transfers().expect("they are counted");
    // For each family two answers, one that is cancelled, and a wish to cancel it, which psql may repeat.
    assert!(counts["injected"] >= 8 && counts["injected"] == counts["begun"], "{counts:?}");
}

/// C5, C8: pgbench, with one connection for all its transactions and with one for each, loses none.
#[test]
#[ignore = "needs root"]
fn no_transaction_of_pgbench_fails() {
    let lab = routed();
    at_server(&lab, "t1", "pgbench -q -i -s 1 north 2>/dev/null");
    let mut expected = 0;
    for dvipa in [DVIPA.0.to_string(), DVIPA.1.to_string()] {
        for (how, transactions) in [("-C", 25), ("", 100)] {
            let said = at_client(&lab, &format!("pgbench -n {how} -h {dvipa} -c 4 -t {transactions} north"));
            expected += 4 * transactions;
            let done = format!("number of transactions actually processed: {0}/{0}", 4 * transactions);
            assert!(said.contains(&done), "{said}");
            assert!(said.contains("number of failed transactions: 0 "), "{said}");
        }
    }
    let rows = at_server(&lab, "t1", "psql -Atc 'select count(*) from pgbench_history' north");
    assert_eq!(rows.trim(), expected.to_string());
}
