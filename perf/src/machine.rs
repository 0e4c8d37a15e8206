//! The machine that was measured on, in words: figures of two machines can't be compared without.

use std::fs;

/// One line for each thing that matters: what, and which.
pub(crate) fn describe() -> Vec<(&'static str, String)> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cores = cpuinfo.lines().filter(|line| line.starts_with("processor")).count();
    vec![
        ("processor", format!("{}, {cores} cores", field("/proc/cpuinfo", "model name"))),
        ("caches", caches()),
        ("memory", field("/proc/meminfo", "MemTotal")),
        ("kernel", line("/proc/sys/kernel/osrelease")),
        ("DPDK", dpdk()),
        ("huge pages", format!("{} of 2 MB during the run", field("/proc/meminfo", "HugePages_Total"))),
        ("transparent huge pages", line("/sys/kernel/mm/transparent_hugepage/enabled")),
        ("compiler", env!("PERF_RUSTC").to_owned()),
    ]
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// The value of the first line `name : value`.
fn field(path: &str, name: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().filter_map(|l| l.split_once(':')).find(|(key, _)| key.trim() == name);
    value.map_or_else(|| "unknown".to_owned(), |(_, value)| value.trim().to_owned())
}

/// The first core's caches, each with how many logical cores share it.
fn caches() -> String {
    let one = |index: u32| {
        let of = |file| {
            let path = format!("/sys/devices/system/cpu/cpu0/cache/index{index}/{file}");
            fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
        };
        let kind = match of("type")?.as_str() {
            "Data" => "d",
            "Instruction" => "i",
            _ => "",
        };
        Some(format!("L{}{kind} {} (cores {})", of("level")?, of("size")?, of("shared_cpu_list")?))
    };
    let known: Vec<String> = (0..8).map_while(one).collect();
    if known.is_empty() { "unknown".to_owned() } else { known.join(", ") }
}

fn dpdk() -> String {
    let asked = std::process::Command::new("pkg-config").args(["--modversion", "libdpdk"]).output();
    let version = asked.ok().filter(|o| o.status.success());
    version.map_or_else(|| "none".to_owned(), |o| String::from_utf8_lossy(&o.stdout).trim().to_owned())
}
