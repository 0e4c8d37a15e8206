//! Where a test can hold a program: before each deed of a transfer, so that a kill at that moment is one at exactly that step.
//!
//! If `BATON_HALT` names a file, and the file has the name of a step (`target.activate`), then a process that comes to that step
//! renames the file to `….reached` and stands still until it is gone. Nothing of this is in a build without debug assertions.

/// The variable of the environment with the file's name.
pub const FILE: &str = "BATON_HALT";

/// Says that this step (of `source`, `target` or `routing`) is next.
#[inline]
pub fn before(role: &str, step: &str) {
    #[cfg(debug_assertions)]
    debug::before(role, step);
    #[cfg(not(debug_assertions))]
    let _ = (role, step);
}

#[cfg(debug_assertions)]
mod debug {
    use std::fs;
    use std::path::PathBuf;
    use std::sync::LazyLock;
    use std::time::Duration;

    static FILE: LazyLock<Option<PathBuf>> =
        LazyLock::new(|| std::env::var_os(super::FILE).map(PathBuf::from));

    pub(super) fn before(role: &str, step: &str) {
        let Some(file) = FILE.as_ref() else { return };
        let is_meant = |wanted: String| wanted.split_once('.') == Some((role, step));
        if !fs::read_to_string(file).is_ok_and(is_meant) {
            return;
        }
        let reached = file.with_extension("reached");
        if fs::rename(file, &reached).is_err() {
            return;
        }
        while reached.exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
