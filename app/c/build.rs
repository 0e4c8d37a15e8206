//! Gives the shared library its SONAME: programs are linked with the calls of one version. Below 1.0 each minor version has calls
//! of its own, as Semantic Versioning has it.

fn main() {
    let part = |name| std::env::var(name).unwrap_or_default();
    let (major, minor) = (part("CARGO_PKG_VERSION_MAJOR"), part("CARGO_PKG_VERSION_MINOR"));
    let version = if major == "0" { format!("0.{minor}") } else { major };
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libbaton_c.so.{version}");
    println!("cargo:rerun-if-changed=build.rs");
}
