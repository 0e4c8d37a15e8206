//! Compiles the C side: the limit loop, and with the feature `dpdk` the loop around rte_hash.

fn main() {
    println!("cargo::rerun-if-changed=c");
    let compiler = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = std::process::Command::new(compiler).arg("--version").output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    println!("cargo::rustc-env=PERF_RUSTC={}", version.unwrap_or_default());
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
