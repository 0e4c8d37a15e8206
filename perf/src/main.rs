//! Measures baton against the machine's limits, against DPDK's own tools, against proxies and against keepalived, in one run, so that
//! ratios count.

#[cfg(feature = "dpdk")]
mod allocations;
mod attach;
#[cfg_attr(not(feature = "dpdk"), allow(dead_code, reason = "the rows of the path need DPDK"))]
mod cluster;
mod control;
mod counts;
#[cfg(feature = "dpdk")]
mod dpdk;
mod entries;
mod frames;
mod keys;
#[cfg(feature = "plot")]
mod machine;
mod neighbours;
#[cfg(feature = "dpdk")]
mod path;
mod peer;
#[cfg(feature = "plot")]
mod plot;
mod renewal;
mod rig;
mod rows;
#[cfg_attr(not(feature = "dpdk"), allow(dead_code, reason = "the rows of the path need DPDK"))]
mod source;
mod table;
#[cfg(feature = "transfer")]
mod takeover;
#[cfg(feature = "dpdk")]
mod testpmd;
mod timing;
mod transactions;
#[cfg(feature = "transfer")]
mod transfer;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use forwarder::crt::{KeyV4, KeyV6};

use keys::Numbered;
use rows::Rows;
use table::Filled;

/// Measures baton against the machine's limits and against DPDK's own tools.
#[derive(Parser)]
struct Arguments {
    /// One JSON object a line instead of the table.
    #[arg(long)]
    json: bool,
    /// Instead: compares instruction counts with those in this file.
    #[arg(long, value_name = "FILE")]
    counts: Option<PathBuf>,
    /// Writes the file instead of comparing.
    #[arg(long, requires = "counts")]
    record: bool,
    /// Runs one function for callgrind.
    #[arg(long, hide = true)]
    count: Option<String>,
    /// Holds connections like the one in a file, from this number to below that one.
    #[cfg(feature = "transfer")]
    #[arg(long, hide = true, num_args = 3, value_names = ["FILE", "FROM", "TO"])]
    hold: Option<Vec<String>>,
    /// Instead: measures what the figure needs and writes it into this directory.
    #[cfg(feature = "plot")]
    #[arg(long, value_name = "DIRECTORY")]
    plot: Option<PathBuf>,
    /// A fraction of a second each: to see that it works, not for figures.
    #[arg(long)]
    tiny: bool,
    /// Only rows whose name contains one of these.
    names: Vec<String>,
}

/// Sizes of tables and the words for them in names.
const SIZES: [(u32, &str); 3] = [(10_000, "10k"), (1_000_000, "1m"), (10_000_000, "10m")];
/// Flows of the figure, and the words for them in names.
#[cfg(any(feature = "dpdk", feature = "plot"))]
const FLOWS: [(u32, &str); 5] =
    [(1000, "1k"), (10_000, "10k"), (100_000, "100k"), (1_000_000, "1m"), (10_000_000, "10m")];

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> Result<(), Box<dyn Error>> {
    if arguments.tiny {
        timing::be_tiny();
    }
    if let Some(file) = &arguments.counts {
        return Ok(counts::compare(file, arguments.record)?);
    }
    if let Some(name) = &arguments.count {
        return Ok(counts::run(name)?);
    }
    #[cfg(feature = "transfer")]
    if let Some([file, from, to]) = arguments.hold.as_deref() {
        return transfer::hold(file.as_ref(), from.parse()?..to.parse()?)
            .map_err(|e| -> Box<dyn Error> { e });
    }
    #[cfg(feature = "plot")]
    if let Some(directory) = &arguments.plot {
        let mut rows = Rows::new(plot::ROWS.map(str::to_owned).to_vec(), false);
        measure(&mut rows);
        return Ok(plot::write(directory, &rows)?);
    }
    let mut rows = Rows::new(arguments.names, arguments.json);
    // First, while nothing keeps its threads and programs on one core.
    #[cfg(feature = "transfer")]
    transfer::measure(&mut rows, if arguments.tiny { transfer::Size::Tiny } else { transfer::Size::Full });
    #[cfg(feature = "transfer")]
    takeover::measure(&mut rows);
    measure(&mut rows);
    rows.finish();
    Ok(())
}

fn measure(rows: &mut Rows) {
    if rows.are_all_of(rows::OF_A_CLUSTER) {
        return;
    }
    timing::pin();
    control::measure(rows);
    #[cfg(feature = "transfer")]
    control::warm::measure(rows);
    attach::measure(rows, timing::connections(10_000_000), "10m");
    if rows.are_all_of(rows::WITHOUT_PORTS) {
        return;
    }
    #[cfg(feature = "dpdk")]
    let dpdk = dpdk::Dpdk::start();
    for (n, word) in SIZES {
        let largest = n == 10_000_000;
        let n = timing::connections(n);
        limit::<KeyV4>(rows, n, &format!("limit_line_{word}_ns"));
        connection_table(rows, n, word, largest);
        if word == "1m" {
            limit::<KeyV6>(rows, n, "limit_line_v6_1m_ns");
            connection_table_v6(rows, n);
        }
        #[cfg(feature = "dpdk")]
        if let Some(dpdk) = &dpdk {
            dpdk.rte_hash(rows, n, word, largest);
        }
    }
    neighbours::measure(rows);
    #[cfg(feature = "dpdk")]
    if let Some(dpdk) = dpdk {
        dpdk.testpmd(rows);
        dpdk.stages(rows);
        dpdk.first_requests(rows);
        dpdk.paths(rows);
    }
}

/// The limit for a table of `n` connections: memory of as many bytes.
fn limit<K: Numbered>(rows: &mut Rows, n: u32, name: &str) {
    if rows.wants(&[name])
        && let Ok(bytes) = table::empty::<K>(n).map(|crt| crt.stats().bytes)
        && let Some(ns) = peer::limit_line_ns(bytes / 64)
    {
        rows.add(name, "ns", ns, format!("out of {:.1} MB", bytes as f64 / 1e6));
    }
}

fn connection_table(rows: &mut Rows, n: u32, word: &str, largest: bool) {
    let names = ["lookup_v4", "miss_v4", "insert", "remove"].map(|row| format!("crt_{row}_{word}_ns"));
    let [lookup, miss, insert, remove] = names.each_ref().map(String::as_str);
    let (bytes, age) = ("crt_bytes_per_connection", "crt_age_10m_percent");
    if rows.wants(&[lookup, miss]) || largest && rows.wants(&[bytes, insert, age, remove]) {
        let Ok(mut filled) = Filled::new::<KeyV4>(n) else { return };
        if rows.wants(&[lookup]) {
            let (ns, found) = filled.lookup_ns::<KeyV4>(0);
            rows.add(lookup, "ns", ns, filled.how_full(found));
        }
        if rows.wants(&[miss]) {
            let (ns, found) = filled.lookup_ns::<KeyV4>(n);
            rows.add(miss, "ns", ns, filled.how_full(found));
        }
        if largest {
            rows.add(bytes, "B", filled.bytes_each(), "IPv4, half-open and all else included");
            rows.add(insert, "ns", filled.insert_ns, "NEWCONN in bursts, mean over the whole fill");
            if rows.wants(&[age]) {
                let (percent, lines) = filled.age_percent();
                rows.add(age, "%", percent, format!("of a core: {lines} lines each 10 ms"));
            }
            rows.add(remove, "ns", filled.remove_ns::<KeyV4>(), "in bursts, in the order of insertion");
        }
    }
}

fn connection_table_v6(rows: &mut Rows, n: u32) {
    let (lookup, bytes) = ("crt_lookup_v6_1m_ns", "crt_bytes_per_connection_v6");
    if rows.wants(&[lookup, bytes]) {
        let Ok(mut filled) = Filled::new::<KeyV6>(n) else { return };
        let (ns, found) = filled.lookup_ns::<KeyV6>(0);
        rows.add(lookup, "ns", ns, filled.how_full(found));
        rows.add(bytes, "B", filled.bytes_each(), "IPv6, half-open and all else included");
    }
}
