//! Compiles the C side: the limit loop, and with the feature `dpdk` the loop around rte_hash.

fn main() {
    println!("cargo::rerun-if-changed=c");
    let mut limit = cc::Build::new();
    limit.file("c/limit.c").opt_level(3).compile("perf_limit");
    #[cfg(feature = "dpdk")]
    dpdk();
}

#[cfg(feature = "dpdk")]
fn dpdk() {
    let dpdk = pkg_config::Config::new().atleast_version("22.11").cargo_metadata(false).probe("libdpdk");
    let dpdk = dpdk.unwrap_or_else(|e| {
        panic!("libdpdk 22.11 or later is missing (Debian: apt install libdpdk-dev): {e}")
    });
    let mut peer = cc::Build::new();
    peer.file("c/rte_hash.c").opt_level(3).includes(&dpdk.include_paths);
    peer.flag("-march=corei7").flag("-include").flag("rte_config.h").compile("perf_rte_hash");
    println!("cargo::rustc-link-lib=dylib=rte_hash");
}
