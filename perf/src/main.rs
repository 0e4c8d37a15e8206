//! Measures baton against the machine's limits, against DPDK's own tools and against proxies, in one run, so that ratios count.

#[cfg(feature = "dpdk")]
mod allocations;
mod cluster;
mod counts;
#[cfg(feature = "dpdk")]
mod dpdk;
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
mod source;
mod table;
#[cfg(feature = "dpdk")]
mod testpmd;
mod timing;
#[cfg(feature = "transfer")]
mod transfer;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use forwarder::crt::{KeyV4, KeyV6};

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
    /// Instead: measures what the figure needs and writes it into this directory.
    #[cfg(feature = "plot")]
    #[arg(long, value_name = "DIRECTORY")]
    plot: Option<PathBuf>,
    /// A fraction of a second each: to see that it works, not for figures.
    #[cfg(feature = "transfer")]
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
    if let Some(file) = &arguments.counts {
        return Ok(counts::compare(file, arguments.record)?);
    }
    if let Some(name) = &arguments.count {
        return Ok(counts::run(name)?);
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
    measure(&mut rows);
    rows.finish();
    Ok(())
}

fn measure(rows: &mut Rows) {
    if rows.are_of_a_cluster() {
        return;
    }
    timing::pin();
    #[cfg(feature = "dpdk")]
    let dpdk = dpdk::Dpdk::start();
    for (n, word) in SIZES {
        limit(rows, n, word);
        connection_table(rows, n, word);
        #[cfg(feature = "dpdk")]
        if let Some(dpdk) = &dpdk {
            dpdk.rte_hash(rows, n, word);
        }
    }
    neighbours::measure(rows);
    #[cfg(feature = "dpdk")]
    if let Some(dpdk) = dpdk {
        dpdk.testpmd(rows);
        dpdk.stages(rows);
        dpdk.paths(rows);
    }
}

fn limit(rows: &mut Rows, n: u32, word: &str) {
    let name = format!("limit_line_{word}_ns");
    if rows.wants(&[&name])
        && let Some(ns) = peer::limit_line_ns(u64::from(n))
    {
        rows.add(&name, "ns", ns, "");
    }
}

fn connection_table(rows: &mut Rows, n: u32, word: &str) {
    let names = ["lookup_v4", "miss_v4", "insert", "remove"].map(|row| format!("crt_{row}_{word}_ns"));
    let [lookup, miss, insert, remove] = names.each_ref().map(String::as_str);
    let (largest, bytes) = (n == 10_000_000, "crt_bytes_per_connection");
    if rows.wants(&[lookup, miss]) || largest && rows.wants(&[bytes, insert, remove]) {
        let Ok(mut filled) = Filled::new::<KeyV4>(n) else { return };
        let (ns, found) = filled.lookup_ns::<KeyV4>(0);
        rows.add(lookup, "ns", ns, format!("{:.0} % full, {:.0} % found", filled.percent(), found * 100.0));
        let (ns, found) = filled.lookup_ns::<KeyV4>(n);
        rows.add(miss, "ns", ns, format!("{:.0} % found", found * 100.0));
        if largest {
            let each = filled.crt.stats().bytes as f64 / f64::from(n);
            rows.add(bytes, "B", each, "IPv4, half-open and all else included");
            rows.add(insert, "ns", filled.insert_ns, "NEWCONN in bursts, mean over the whole fill");
            rows.add(remove, "ns", filled.remove_ns::<KeyV4>(), "in bursts, in the order of insertion");
        }
    }
    let (lookup, bytes) = (format!("crt_lookup_v6_{word}_ns"), "crt_bytes_per_connection_v6");
    if n == 1_000_000 && rows.wants(&[&lookup, bytes]) {
        let Ok(mut filled) = Filled::new::<KeyV6>(n) else { return };
        let (ns, found) = filled.lookup_ns::<KeyV6>(0);
        rows.add(&lookup, "ns", ns, format!("{:.0} % full, {:.0} % found", filled.percent(), found * 100.0));
        let each = filled.crt.stats().bytes as f64 / f64::from(n);
        rows.add(bytes, "B", each, "IPv6, half-open and all else included");
    }
}
