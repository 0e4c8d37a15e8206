//! A table that outlives its process beside one that is filled anew: what the next process needs until it has all connections.

use std::fs::File;

use forwarder::crt::{Config, Crt, KeyV4, Named};
use model::{DvipaIndex, StackIndex};
use rustix::fs::{MemfdFlags, memfd_create};

use crate::rows::Rows;
use crate::table::insert;
use crate::timing::{once_ns, processor_time};

/// Times that the table is attached to; the fastest counts.
const TIMES: usize = 5;

/// Memory as a file, of huge pages if there are enough; and the word for it.
fn memory(config: &Config) -> std::io::Result<(Crt, File, &'static str)> {
    let pages = [(MemfdFlags::HUGETLB, "2 MB pages"), (MemfdFlags::empty(), "4 kB pages")];
    let mut last = std::io::Error::other("no kind of memory");
    for (kind, word) in pages {
        let file = memfd_create("crt", MemfdFlags::CLOEXEC | kind).map(File::from);
        match file.map_err(std::io::Error::from).and_then(|file| Ok((Crt::create_in(config, &file)?, file))) {
            Ok((crt, file)) => return Ok((crt, file, word)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Measures attaching to a table of `n` connections against filling it.
pub(crate) fn measure(rows: &mut Rows, n: u32, word: &str) {
    let names = ["attach", "rebuild"].map(|row| format!("crt_{row}_{word}_ms"));
    let [attach, rebuild] = names.each_ref().map(String::as_str);
    let ratio = format!("crt_attach_{word}_ratio");
    if !rows.wants(&[attach, rebuild, &ratio]) {
        return;
    }
    let config = Config { connections_v4: n as usize, connections_v6: 0, flows: 1024, ..Config::default() };
    let Ok((crt, file, pages)) = memory(&config) else { return };
    let rebuild_ms = once_ns(1, || insert::<KeyV4>(&crt, n)) / 1e6;
    drop(crt);
    let named = Named::new((0..7).map(StackIndex), (0..=DvipaIndex::MAX).map(DvipaIndex));
    let once = || {
        let (mut entries, begun) = (0, processor_time());
        let ns = once_ns(1, || {
            let left = Crt::find_in(&config, &file).unwrap_or_else(|why| panic!("{why}"));
            entries = left.attach(&named).0.stats().v4.entries;
        });
        assert_eq!(entries, u64::from(n), "every connection is there");
        [ns / 1e6, (processor_time() - begun).as_secs_f64() * 1e3]
    };
    let quickest = |[a, b]: [f64; 2], [c, d]: [f64; 2]| [a.min(c), b.min(d)];
    let [attach_ms, busy_ms] = (0..TIMES).map(|_| once()).fold([f64::INFINITY; 2], quickest);
    let note =
        format!("of {n} connections, {busy_ms:.0} ms of a processor, one core, {pages}, mapping included");
    rows.add(attach, "ms", attach_ms, note);
    rows.add(rebuild, "ms", rebuild_ms, "NEWCONN of all of them in bursts, without sessions and decoding");
    rows.add(&ratio, "", attach_ms / rebuild_ms, "attach to rebuild");
}
