//! Finds libdpdk, generates the bindings and compiles the shim. What is missing is named with its Debian package.

use std::env;
use std::path::PathBuf;
use std::process::exit;

/// The oldest DPDK whose names and structures this crate uses.
const OLDEST: &str = "22.11";

/// What the safe surface calls; nothing else is bound.
const FUNCTIONS: &[&str] = &[
    "rte_eal_init",
    "rte_eal_remote_launch",
    "rte_eal_wait_lcore",
    "rte_get_tsc_hz",
    "rte_dev_probe",
    "rte_dev_remove",
    "rte_eth_dev_adjust_nb_rx_tx_desc",
    "rte_eth_dev_close",
    "rte_eth_dev_configure",
    "rte_eth_dev_get_port_by_name",
    "rte_eth_dev_info_get",
    "rte_eth_dev_set_mtu",
    "rte_eth_dev_socket_id",
    "rte_eth_dev_start",
    "rte_eth_dev_stop",
    "rte_eth_allmulticast_enable",
    "rte_eth_macaddr_get",
    "rte_eth_promiscuous_enable",
    "rte_eth_rx_queue_setup",
    "rte_eth_stats_get",
    "rte_eth_tx_queue_setup",
    "rte_pktmbuf_pool_create",
    "rte_mempool_avail_count",
    "rte_version",
    "shim_.*",
];

fn main() {
    println!("cargo:rerun-if-changed=shim");
    let dpdk = pkg_config::Config::new().atleast_version(OLDEST).probe("libdpdk").unwrap_or_else(|cause| {
        stop(&format!("DPDK {OLDEST} or newer was not found"), "libdpdk-dev pkg-config", &cause.to_string())
    });
    let flags = compiler_flags();

    let mut shim = cc::Build::new();
    shim.files(["shim/shim.c", "shim/steer.c"])
        .includes(&dpdk.include_paths)
        .warnings(true)
        .extra_warnings(false);
    for flag in &flags {
        shim.flag(flag);
    }
    shim.compile("shim");

    let builder = bindgen::Builder::default()
        .header("shim/shim.h")
        .clang_args(dpdk.include_paths.iter().map(|path| format!("-I{}", path.display())))
        .clang_args(&flags)
        .allowlist_function(FUNCTIONS.join("|"))
        .allowlist_var("SHIM_.*|RTE_MAX_LCORE|RTE_ETH_NAME_MAX_LEN|RTE_PKTMBUF_HEADROOM")
        .derive_debug(false)
        .layout_tests(true)
        .generate_comments(false)
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()));
    // A missing libclang is a panic inside of bindgen, not an error.
    let bindings = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.generate()))
        .unwrap_or_else(|_| stop("bindgen found no libclang", "clang libclang-dev", "see above"))
        .unwrap_or_else(|cause| {
            stop("bindgen can't read the DPDK headers", "clang libclang-dev", &cause.to_string())
        });
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default()).join("dpdk.rs");
    if let Err(cause) = bindings.write_to_file(&out) {
        stop(&format!("{} can't be written", out.display()), "(none)", &cause.to_string());
    }
}

/// The flags without which the headers do not compile (`-march`, `-include rte_config.h`): pkg-config's own library
/// keeps only include paths and definitions.
fn compiler_flags() -> Vec<String> {
    let output = std::process::Command::new("pkg-config").args(["--cflags-only-other", "libdpdk"]).output();
    let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn stop(what: &str, package: &str, cause: &str) -> ! {
    eprintln!("\nerror: {what}\n\n  fix: apt-get install {package}");
    eprintln!("       (or build without the forwarder: cargo build --no-default-features)\n\n{cause}");
    exit(1)
}
