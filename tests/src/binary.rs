//! The `heddle` binary under test: built once per test process in the profile of the tests, or named by `HEDDLE_BIN`.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary to test.
///
/// # Panics
/// If it cannot be built, or `HEDDLE_BIN` names no file.
pub fn heddle() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| match env::var_os("HEDDLE_BIN") {
        Some(path) => named(PathBuf::from(path)),
        None => build(),
    })
}

fn named(path: PathBuf) -> PathBuf {
    assert!(path.is_file(), "HEDDLE_BIN is {}, which is no file", path.display());
    path
}

/// The root of the workspace.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests are a folder of the workspace")
}

/// Builds with all packages selected, so that Cargo chooses the same features as for `cargo test` and reuses what that
/// compiled.
fn build() -> PathBuf {
    let (target_dir, profile_dir) = output_dirs();
    let profile = match profile_dir.as_str() {
        "debug" => "dev",
        name => name,
    };
    let status = Command::new(env!("CARGO"))
        .current_dir(workspace())
        .args(["build", "--quiet", "--workspace", "--bin", "heddle", "--profile", profile, "--target-dir"])
        .arg(&target_dir)
        .status()
        .unwrap_or_else(|error| panic!("{} does not start: {error}", env!("CARGO")));
    assert!(status.success(), "the broker does not build; see above");
    named(target_dir.join(profile_dir).join("heddle"))
}

/// Cargo's target directory and the profile's folder in it, from where this test lies: `<target>/<profile>/deps/<test>`.
fn output_dirs() -> (PathBuf, String) {
    let test = env::current_exe().expect("a test knows its own path");
    let profile = test.ancestors().nth(2).expect("tests lie two folders below the target directory");
    let name = profile.file_name().and_then(|name| name.to_str()).expect("the profile has a name");
    let target = profile.parent().expect("the profile is a folder of the target directory");
    (target.to_owned(), name.to_owned())
}
