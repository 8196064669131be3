//! Rules about the source tree that no compiler checks, each a function from a file's text to complaints that say what to do.

use std::fs;
use std::path::Path;

/// A source file over this many lines has more than one job.
const LINES_MAX: usize = 900;

/// Where the runtime's name may stand. Everything else must run without a ring.
const GLOMMIO_HOMES: [&str; 4] = ["core/src/runtime/", "net/src/socket/", "log-store/src/disk/", "loadgen/"];

/// Tests and examples of the crates that live on it start one.
const GLOMMIO_TESTS: [&str; 5] =
    ["core/tests/", "net/tests/", "log-store/tests/", "log-store/examples/", "replication/transport/tests/"];

/// Folders of the top level.
const FOLDERS: [&str; 11] = [
    ".cargo",
    ".ci",
    "core",
    "deploy",
    "docs",
    "loadgen",
    "log-store",
    "net",
    "perf-reports",
    "replication",
    "tests",
];

/// Sources of others, kept here with changes of ours; their shape is not ours to judge.
const VENDORED: &str = "core/vendor";

/// Files of the top level.
const FILES: [&str; 14] = [
    ".gitattributes",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "NOTICE",
    "README.md",
    "SECURITY.md",
    "clippy.toml",
    "deny.toml",
    "rust-toolchain.toml",
    "rustfmt.toml",
];

/// What a build or a first try leaves behind; all of it is ignored by git.
const LEFT_BEHIND: [&str; 3] = [".git", "heddle-data", "target"];

/// A text file of the workspace.
#[derive(Clone, Debug)]
pub struct SourceFile {
    /// Relative to the root, with `/`.
    pub path: String,
    /// Its content.
    pub text: String,
}

impl SourceFile {
    /// A file with this content.
    pub fn new(path: &str, text: &str) -> SourceFile {
        SourceFile { path: path.to_owned(), text: text.to_owned() }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    fn is_generated(&self) -> bool {
        self.path.ends_with("/generated.rs")
    }

    fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.ends_with("tests.rs") || self.path.starts_with("tests/") || self.path.contains("/tests/")
    }
}

/// All text files below `root`, apart from what is left behind by builds and what is vendored.
///
/// # Panics
/// If the tree cannot be read.
pub fn read_tree(root: &Path) -> Vec<SourceFile> {
    let mut files = Vec::new();
    read_folder(root, "", &mut files);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

fn read_folder(root: &Path, folder: &str, files: &mut Vec<SourceFile>) {
    let entries = fs::read_dir(root.join(folder)).unwrap_or_else(|error| panic!("{folder:?}: {error}"));
    for entry in entries {
        let entry = entry.expect("the folder can be read");
        let name = entry.file_name().into_string().expect("file names are text");
        let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
        if LEFT_BEHIND.contains(&name.as_str()) || path == VENDORED {
            continue;
        }
        if entry.file_type().expect("the file has a type").is_dir() {
            read_folder(root, &path, files);
        } else if let Ok(text) = fs::read_to_string(root.join(&path)) {
            files.push(SourceFile { path, text });
        }
    }
}

/// Names at the top level that nobody agreed on.
pub fn top_level(names: &[(String, bool)]) -> Vec<String> {
    let known = |name: &str, is_folder: bool| match is_folder {
        true => FOLDERS.contains(&name) || LEFT_BEHIND.contains(&name),
        false => FILES.contains(&name) || LEFT_BEHIND.contains(&name),
    };
    let strange = names.iter().filter(|(name, is_folder)| !known(name, *is_folder));
    strange
        .map(|(name, _)| {
            format!("{name}: the top level has agreed names only; put it into one of its folders")
        })
        .collect()
}

/// Every module says first what its one job is.
pub fn says_its_job(file: &SourceFile) -> Option<String> {
    let missing = file.is_rust() && !file.is_generated() && !file.text.starts_with("//! ");
    missing.then(|| format!("{}: begin the file with a `//!` sentence that names its one job", file.path))
}

/// The runtime is named in few places.
pub fn names_no_runtime(file: &SourceFile) -> Option<String> {
    let home = GLOMMIO_HOMES.iter().chain(&GLOMMIO_TESTS).any(|home| file.path.starts_with(home));
    let named = ["glommio::", "use glommio", "extern crate glommio"];
    let line =
        file.text.lines().position(|line| !is_comment(line) && named.iter().any(|text| line.contains(text)));
    let line = line.filter(|_| file.is_rust() && !home && file.path != "tests/src/tree.rs")?;
    Some(format!(
        "{}:{}: glommio is named in {} only; use what those offer, so that this runs without a ring",
        file.path,
        line + 1,
        GLOMMIO_HOMES.join(", ")
    ))
}

fn is_comment(line: &str) -> bool {
    line.trim_start().starts_with("//")
}

/// One job per file; tests and generated code may be long.
pub fn is_short(file: &SourceFile) -> Option<String> {
    let lines = file.text.lines().count();
    let long = file.is_rust() && !file.is_generated() && !file.is_test() && lines > LINES_MAX;
    long.then(|| {
        format!(
            "{}: {lines} lines (at most {LINES_MAX}); make it a folder of files with one job each, or move its tests into a sibling tests.rs",
            file.path
        )
    })
}

/// Nothing is left to be done later, and no test is switched off.
pub fn is_finished(file: &SourceFile) -> Vec<String> {
    const MARKS: [&str; 7] = [
        concat!("TO", "DO"),
        concat!("FIX", "ME"),
        concat!("XX", "X"),
        concat!("unimpl", "emented!("),
        concat!("to", "do!("),
        concat!("#[ign", "ore"),
        concat!("not yet impl", "emented"),
    ];
    marked(file, &MARKS, "do it, or leave the mark out")
}

/// What a reader elsewhere can make nothing of: folders of one workplace, and papers that are not in the tree.
pub fn is_at_home_anywhere(file: &SourceFile) -> Vec<String> {
    const WORDS: [&str; 6] = [
        concat!("/wo", "rk/"),
        concat!("/tmp/", "heddle/"),
        concat!("INTER", "FACES.md"),
        concat!("DESI", "GN.md"),
        concat!("STY", "LE.md"),
        concat!("/home/", "runner"),
    ];
    marked(file, &WORDS, "say it without a place or paper that only its author knows")
}

fn marked(file: &SourceFile, marks: &[&str], advice: &str) -> Vec<String> {
    if file.is_generated() || file.path == "Cargo.lock" {
        return Vec::new();
    }
    let lines = file.text.lines().zip(1..);
    let found = lines.filter_map(|(line, number)| {
        let mark = marks.iter().find(|mark| line.contains(**mark))?;
        Some(format!("{}:{number}: `{mark}`: {advice}", file.path))
    });
    found.collect()
}

/// Plain words.
pub fn has_no_emoji(file: &SourceFile) -> Option<String> {
    let found = file.text.chars().find(|c| matches!(u32::from(*c), 0x1_f000.. | 0x2600..=0x27bf))?;
    (!file.path.ends_with(".html")).then(|| format!("{}: {found:?}: say it in words", file.path))
}

/// Every dependency comes from where everybody can get it.
pub fn locks_public_sources(file: &SourceFile) -> Vec<String> {
    const PUBLIC: &str = "source = \"registry+https://github.com/rust-lang/crates.io-index\"";
    let sources = file.text.lines().filter(|line| file.path == "Cargo.lock" && line.starts_with("source"));
    sources
        .filter(|line| *line != PUBLIC)
        .map(|line| format!("Cargo.lock: {line}: use a release of crates.io"))
        .chain(npm_registries(file))
        .collect()
}

/// npm fetches a package from the address in its lock, whatever registry its user has set.
fn npm_registries(file: &SourceFile) -> impl Iterator<Item = String> {
    let is_lock = file.path.ends_with("package-lock.json");
    let named = file.text.lines().find(|line| is_lock && line.contains("\"resolved\": \"http"));
    named.into_iter().map(|line| {
        format!("{}: {}: make it again with omit-lockfile-registry-resolved=true", file.path, line.trim())
    })
}

/// Files and folders of the workspace that a page names in backticks or links to, and that do not exist; and functions
/// named right behind a file, as in "`a/b.rs` (`Type::function`)", that are not in it.
pub fn dead_names(page: &SourceFile, files: &[SourceFile]) -> Vec<String> {
    let mut dead = Vec::new();
    for (path, rest) in named_paths(&page.text) {
        let known = path.trim_end_matches('/');
        let inside = format!("{known}/");
        let file = files.iter().find(|file| file.path == known);
        if file.is_none() && !files.iter().any(|file| file.path.starts_with(&inside)) {
            dead.push(format!("{}: names {path}, which does not exist", page.path));
        }
        if let (Some(file), Some(function)) = (file, function_behind(rest))
            && !defines(&file.text, function)
        {
            dead.push(format!("{}: names {function} in {path}, which is not there", page.path));
        }
    }
    dead
}

fn defines(text: &str, function: &str) -> bool {
    ["fn ", "struct ", "enum ", "trait "].iter().any(|kind| {
        text.match_indices(&format!("{kind}{function}")).any(|(at, found)| {
            let next = text[at + found.len()..].chars().next();
            !next.is_some_and(|c| c.is_alphanumeric() || c == '_')
        })
    })
}

/// The function or type in "(`...`)" at the beginning of the text behind a file's name.
fn function_behind(rest: &str) -> Option<&str> {
    let name = rest.strip_prefix(" (`")?.split('`').next()?;
    name.rsplit("::").next()
}

/// Each path of the workspace in backticks or as the target of a link, with the text behind it.
fn named_paths(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for (open, close) in [("`", "`"), ("](", ")")] {
        let mut rest = text;
        while let Some((_, behind)) = rest.split_once(open) {
            let Some((inside, after)) = behind.split_once(close) else { break };
            if is_path(inside) {
                found.push((inside, after));
            }
            rest = after;
        }
    }
    found
}

/// A path below a folder of the top level; words like `core/partition`, which also name areas of commits, are none.
fn is_path(text: &str) -> bool {
    let folder = text.split('/').next().unwrap_or_default();
    let is_file = text.rsplit('/').next().is_some_and(|name| name.contains('.'));
    let is_folder = text.ends_with('/') || text.contains("/src") || folder == "docs";
    let is_plain = text.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
    text.contains('/') && FOLDERS.contains(&folder) && is_plain && (is_file || is_folder)
}

/// The exit statuses that `core/src/fatal.rs` defines: number and name.
pub fn exit_statuses(fatal: &str) -> Vec<(u32, String)> {
    let mut statuses = Vec::new();
    for part in fatal.split("cause(").skip(1) {
        let mut words = part.splitn(3, ',').map(str::trim);
        let (Some(status), Some(name)) = (words.next(), words.next()) else { continue };
        if let Ok(status) = status.parse() {
            statuses.push((status, name.trim_matches('"').to_owned()));
        }
    }
    statuses
}

/// What a crate may not depend on, because of its one "never".
const NEVER: [(&str, &[&str]); 7] = [
    ("net/proto/Cargo.toml", &["glommio", "tokio", "heddle-net", "heddle-log-store", "heddle-core"]),
    ("net/client/Cargo.toml", &["glommio", "tokio", "heddle-net", "heddle-log-store", "heddle-core"]),
    (
        "log-store/Cargo.toml",
        &["heddle-net", "heddle-client", "heddle-core", "heddle-replication", "hyper", "socket2"],
    ),
    ("replication/Cargo.toml", &["glommio", "heddle-log-store", "heddle-net", "heddle-core", "ahash"]),
    ("replication/driver/Cargo.toml", &["glommio", "heddle-net", "heddle-core", "ahash"]),
    ("replication/transport/Cargo.toml", &["glommio", "heddle-core", "ahash"]),
    ("loadgen/Cargo.toml", &["heddle-core"]),
];

/// Dependencies (those of tests aside) that break a crate's "never"; and crates that do not take the common lints.
pub fn breaks_a_never(manifest: &SourceFile) -> Vec<String> {
    let never = NEVER.iter().find(|(path, _)| *path == manifest.path).map_or(&[][..], |(_, never)| never);
    let mut section = "";
    let mut complaints = Vec::new();
    for line in manifest.text.lines() {
        if line.starts_with('[') {
            section = line.trim();
        }
        let name = line.split(['.', ' ', '=']).next().unwrap_or_default();
        if section == "[dependencies]" && never.contains(&name) {
            complaints.push(format!("{}: {name} breaks what this crate never does", manifest.path));
        }
    }
    if manifest.path.ends_with("/Cargo.toml") && !manifest.text.contains("[lints]\nworkspace = true") {
        complaints.push(format!("{}: take the workspace's lints", manifest.path));
    }
    complaints
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_names_a_registry_is_found() {
        let named = "{\n  \"resolved\": \"https://registry.example/a.tgz\",\n  \"integrity\": \"x\"\n}\n";
        assert_eq!(locks_public_sources(&SourceFile::new("tests/a/package-lock.json", named)).len(), 1);
        assert!(locks_public_sources(&SourceFile::new("tests/a/package.json", named)).is_empty());
        let plain = "{\n  \"integrity\": \"x\"\n}\n";
        assert!(locks_public_sources(&SourceFile::new("tests/a/package-lock.json", plain)).is_empty());
    }

    #[test]
    fn a_missing_sentence_is_found() {
        assert!(says_its_job(&SourceFile::new("core/src/a.rs", "use x;\n")).is_some());
        assert!(says_its_job(&SourceFile::new("core/src/a.rs", "//! Does a.\n")).is_none());
        assert!(says_its_job(&SourceFile::new("docs/a.md", "A page.\n")).is_none());
    }

    #[test]
    fn the_runtime_is_found_outside_its_homes() {
        let text = "//! A.\nuse glommio::Task;\n";
        for path in ["core/src/shard/a.rs", "net/src/frame.rs", "log-store/src/wal/a.rs"] {
            assert!(
                names_no_runtime(&SourceFile::new(path, text)).unwrap().contains("a.rs:2")
                    || path.contains("frame")
            );
        }
        for path in
            ["core/src/runtime/a.rs", "net/src/socket/a.rs", "log-store/src/disk/ring.rs", "loadgen/src/a.rs"]
        {
            assert_eq!(names_no_runtime(&SourceFile::new(path, text)), None);
        }
        assert_eq!(names_no_runtime(&SourceFile::new("net/src/a.rs", "//! For glommio:: users.\n")), None);
    }

    #[test]
    fn long_files_are_found_unless_they_are_tests_or_generated() {
        let text = "x\n".repeat(LINES_MAX + 1);
        assert!(is_short(&SourceFile::new("core/src/a.rs", &text)).is_some());
        assert!(is_short(&SourceFile::new("core/src/a.rs", &text[2..])).is_none());
        for path in
            ["core/src/a/tests.rs", "tests/tests/a.rs", "net/proto/src/native/generated.rs", "docs/a.md"]
        {
            assert!(is_short(&SourceFile::new(path, &text)).is_none(), "{path}");
        }
    }

    #[test]
    fn marks_and_workplaces_are_found() {
        let unfinished = format!("//! A.\n// {}: later\n{}]\n", concat!("TO", "DO"), concat!("#[ign", "ore"));
        assert_eq!(is_finished(&SourceFile::new("core/src/a.rs", &unfinished)).len(), 2);
        let local = format!("see {}shared\n", concat!("/wo", "rk/"));
        assert_eq!(is_at_home_anywhere(&SourceFile::new("docs/a.md", &local)).len(), 1);
        assert!(is_at_home_anywhere(&SourceFile::new("docs/a.md", "network/work\n")).is_empty());
        assert!(has_no_emoji(&SourceFile::new("README.md", "done \u{2705}")).is_some());
        assert!(has_no_emoji(&SourceFile::new("README.md", "µs ≤ → é")).is_none());
    }

    #[test]
    fn foreign_sources_and_strange_names_are_found() {
        let lock = "source = \"registry+https://github.com/rust-lang/crates.io-index\"\nsource = \"git+https://x\"\n";
        assert_eq!(locks_public_sources(&SourceFile::new("Cargo.lock", lock)).len(), 1);
        let names =
            [("core", true), ("scratch", true), ("README.md", false), ("notes.txt", false), ("target", true)];
        let names: Vec<(String, bool)> = names.map(|(name, folder)| (name.to_owned(), folder)).into();
        assert_eq!(top_level(&names).len(), 2);
    }

    #[test]
    fn dead_names_are_found() {
        let files =
            [SourceFile::new("core/src/a.rs", "//! A.\npub async fn serve() {}\npub fn served_by() {}\n")];
        let page = |text: &str| dead_names(&SourceFile::new("docs/architecture.md", text), &files);
        assert_eq!(
            page("`core/src/a.rs` (`Shard::serve`), `core/src`, `core/src/`, `a/b`, [a](core/src/a.rs)"),
            Vec::<String>::new()
        );
        assert_eq!(page("`core/src/b.rs`").len(), 1);
        assert_eq!(page("[b](core/src/b.rs)").len(), 1);
        assert_eq!(page("`core/src/a.rs` (`Shard::serv`)").len(), 1);
        assert_eq!(page("`core/src/a.rs` (`gone`)").len(), 1);
    }

    #[test]
    fn exit_statuses_are_read() {
        let text = "    cause(10, \"configuration\", \"m\", \"a\"),\n    cause(\n        11,\n        \"environment\",\n        \"m\",\n";
        assert_eq!(exit_statuses(text), [(10, "configuration".to_owned()), (11, "environment".to_owned())]);
    }

    #[test]
    fn broken_nevers_are_found() {
        let good = "[dependencies]\nbytes.workspace = true\n\n[lints]\nworkspace = true\n[dev-dependencies]\ntokio.workspace = true\n";
        assert!(breaks_a_never(&SourceFile::new("net/client/Cargo.toml", good)).is_empty());
        let bad = good.replace("bytes", "glommio").replace("[lints]", "[lint]");
        assert_eq!(breaks_a_never(&SourceFile::new("net/client/Cargo.toml", &bad)).len(), 2);
    }
}
