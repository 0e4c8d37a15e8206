//! Names every Debian package that building needs and this machine lacks, at once and before anything else fails.

use std::env;
use std::path::Path;
use std::process::{Command, exit};

/// The oldest DPDK that `forwarder/plane/` runs on.
const OLDEST_DPDK: &str = "22.11";

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    println!("cargo:rerun-if-env-changed=LIBCLANG_PATH");
    let mut missing: Vec<(&str, &str)> = Vec::new();
    let mut need = |is_there: bool, package, purpose| {
        if !is_there {
            missing.push((package, purpose));
        }
    };
    need(runs("cc", &["--version"]), "gcc", "libbpf and the shim of DPDK's inline functions");
    need(runs("make", &["--version"]), "make", "libbpf");
    need(runs("pkg-config", &["--version"]), "pkg-config", "finding libraries");
    need(
        runs(&env::var("CLANG").unwrap_or_else(|_| "clang".to_owned()), &["--version"]),
        "clang",
        "the agent's BPF programs",
    );
    need(Path::new("/usr/include/gelf.h").exists() || has_library(&["libelf"]), "libelf-dev", "libbpf");
    need(Path::new("/usr/include/zlib.h").exists() || has_library(&["zlib"]), "zlib1g-dev", "libbpf");
    need(Path::new("/usr/include/linux/bpf.h").exists(), "linux-libc-dev", "the agent's BPF programs");
    let protoc = env::var("PROTOC").unwrap_or_else(|_| "protoc".to_owned());
    need(runs(&protoc, &["--version"]), "protobuf-compiler", "the messages of etcd");
    let messages = Path::new("/usr/include/google/protobuf/descriptor.proto");
    need(
        messages.exists() || env::var_os("PROTOC_INCLUDE").is_some(),
        "libprotobuf-dev",
        "the messages of etcd",
    );
    if env::var_os("CARGO_FEATURE_DPDK").is_some() {
        need(
            has_library(&["--atleast-version", OLDEST_DPDK, "libdpdk"]),
            "libdpdk-dev",
            "batond: DPDK 22.11 or newer",
        );
        need(has_libclang(), "libclang-dev", "batond: bindings of DPDK's headers");
    }
    if missing.is_empty() {
        return;
    }
    eprintln!("\nerror: packages that baton is built with are missing\n");
    for (package, purpose) in &missing {
        eprintln!("  {package:<15} {purpose}");
    }
    let packages: Vec<&str> = missing.iter().map(|(package, _)| *package).collect();
    eprintln!("\n  fix: apt-get install {}", packages.join(" "));
    eprintln!("       (without `batond`, DPDK is not needed: cargo build --no-default-features)\n");
    exit(1)
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

fn has_library(arguments: &[&str]) -> bool {
    let exists: &[&str] = if arguments.len() > 1 { &[] } else { &["--exists"] };
    Command::new("pkg-config")
        .args(exists)
        .args(arguments)
        .output()
        .is_ok_and(|output| output.status.success())
}

/// As bindgen finds it: where LIBCLANG_PATH says, else where the packages of LLVM put it.
fn has_libclang() -> bool {
    let has = |directory: &Path| {
        directory.read_dir().into_iter().flatten().flatten().any(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("libclang") && name.contains(".so")
        })
    };
    if let Some(path) = env::var_os("LIBCLANG_PATH") {
        return Path::new(&path).is_file() || has(Path::new(&path));
    }
    let llvm = Path::new("/usr/lib").read_dir().into_iter().flatten().flatten();
    let mut places: Vec<_> = llvm
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("llvm"))
        .map(|entry| entry.path().join("lib"))
        .collect();
    places.extend(
        ["/usr/lib", "/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"].map(Into::into),
    );
    places.iter().any(|place| has(place))
}
