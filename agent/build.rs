//! Compiles the BPF programs and writes a typed loader ("skeleton") for each.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use libbpf_cargo::SkeletonBuilder;

/// One file a program group, `bpf/NAME.bpf.c`.
const PROGRAMS: [&str; 13] = [
    "admissions",
    "answers",
    "ask",
    "clients",
    "conntrack",
    "containers",
    "conversations",
    "decapsulate",
    "egress",
    "handoff",
    "listeners",
    "ports",
    "sockets",
];
/// What they include.
const HEADERS: [&str; 18] = [
    "address.h",
    "admissions.h",
    "ask.h",
    "claim.h",
    "connection.h",
    "conversations.h",
    "counters.h",
    "datagrams.h",
    "dvipas.h",
    "events.h",
    "flows.h",
    "freezes.h",
    "handoff.h",
    "lookup.h",
    "packet.h",
    "ports.h",
    "segment.h",
    "source.h",
];
/// The first clang that compiles all of this.
const OLDEST_CLANG: u32 = 12;

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("error: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<(), String> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CLANG");
    for header in HEADERS {
        println!("cargo:rerun-if-changed=bpf/{header}");
    }
    let clang = env::var("CLANG").unwrap_or_else(|_| "clang".to_owned());
    check_clang(&clang)?;
    let includes = kernel_headers()?;
    let out = PathBuf::from(env::var("OUT_DIR").map_err(|e| e.to_string())?);
    for name in PROGRAMS {
        let source = PathBuf::from(format!("bpf/{name}.bpf.c"));
        println!("cargo:rerun-if-changed={}", source.display());
        // v3: atomic operations and 32-bit jumps (Linux 5.12). Not v4, which clang 14 does not know.
        let args = ["-mcpu=v3", "-Wall", "-Wextra", "-Werror", "-idirafter", &includes];
        SkeletonBuilder::new()
            .source(&source)
            .clang(&clang)
            .clang_args(args)
            .build_and_generate(out.join(format!("{name}.skel.rs")))
            .map_err(|e| format!("{} does not compile: {e:#}", source.display()))?;
    }
    Ok(())
}

fn check_clang(clang: &str) -> Result<(), String> {
    let missing = format!(
        "`{clang}` is needed to compile the agent's BPF programs: apt-get install clang (or set CLANG to another one)"
    );
    let output = Command::new(clang).arg("-dumpversion").output().map_err(|e| format!("{missing}: {e}"))?;
    let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    match version.split('.').next().and_then(|major| major.parse::<u32>().ok()) {
        Some(major) if major >= OLDEST_CLANG => Ok(()),
        _ => Err(format!("{missing}; version {OLDEST_CLANG} or newer, this is {version:?}")),
    }
}

/// The directory that has `asm/types.h`, which a compiler for BPF does not search by itself on Debian.
fn kernel_headers() -> Result<String, String> {
    let arch = env::var("CARGO_CFG_TARGET_ARCH").map_err(|e| e.to_string())?;
    let candidates = [format!("/usr/include/{arch}-linux-gnu"), "/usr/include".to_owned()];
    candidates
        .into_iter()
        .find(|dir| PathBuf::from(dir).join("asm/types.h").exists())
        .ok_or_else(|| "the kernel's headers are missing: apt-get install linux-libc-dev".to_owned())
}
