//! The tree as it is against the rules of `heddle_tests::tree`.

use heddle_tests::binary::workspace;
use heddle_tests::tree::{self, SourceFile};

#[track_caller]
fn expect_none(complaints: impl IntoIterator<Item = String>) {
    let complaints: Vec<String> = complaints.into_iter().collect();
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

fn files() -> Vec<SourceFile> {
    let files = tree::read_tree(workspace());
    assert!(files.len() > 100, "the tree was not found: {} files", files.len());
    files
}

fn file<'a>(files: &'a [SourceFile], path: &str) -> &'a SourceFile {
    files.iter().find(|file| file.path == path).unwrap_or_else(|| panic!("{path} is missing"))
}

#[test]
fn the_top_level_has_agreed_names_only() {
    let entries = std::fs::read_dir(workspace()).expect("the workspace can be read");
    let names: Vec<(String, bool)> = entries
        .map(|entry| entry.expect("the workspace can be read"))
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.file_type().unwrap().is_dir()))
        // A worktree has a file where a clone has a folder.
        .filter(|(name, _)| name != ".git")
        .collect();
    expect_none(tree::top_level(&names));
}

#[test]
fn every_file_says_its_job_and_has_only_one() {
    let files = files();
    expect_none(files.iter().filter_map(tree::says_its_job));
    expect_none(files.iter().filter_map(tree::is_short));
}

#[test]
fn the_runtime_is_named_in_its_homes_only() {
    expect_none(files().iter().filter_map(tree::names_no_runtime));
}

#[test]
fn nothing_is_unfinished_or_of_one_workplace() {
    let files = files();
    expect_none(files.iter().flat_map(tree::is_finished));
    expect_none(files.iter().flat_map(tree::is_at_home_anywhere));
    expect_none(files.iter().filter_map(tree::has_no_emoji));
    expect_none(files.iter().flat_map(tree::locks_public_sources));
}

#[test]
fn crates_keep_what_they_never_do() {
    let files = files();
    let manifests: Vec<&SourceFile> =
        files.iter().filter(|file| file.path.ends_with("/Cargo.toml")).collect();
    assert!(manifests.len() >= 8, "crates are missing");
    expect_none(manifests.into_iter().flat_map(tree::breaks_a_never));
}

#[test]
fn pages_name_only_what_exists() {
    let files = files();
    for page in ["README.md", "docs/architecture.md"] {
        file(&files, page);
    }
    let pages = files.iter().filter(|file| file.path.ends_with(".md"));
    expect_none(pages.flat_map(|page| tree::dead_names(page, &files)));
}

#[test]
fn the_architecture_opens_with_the_life_of_a_produce_request() {
    let files = files();
    let page = file(&files, "docs/architecture.md");
    let life = page.text.split("\n## ").nth(1).expect("the page has sections");
    assert!(
        life.starts_with("The life of a produce request"),
        "it opens with: {}",
        life.lines().next().unwrap()
    );
    let steps = life
        .lines()
        .filter(|line| line.split_once(". ").is_some_and(|(number, _)| number.parse::<u8>().is_ok()));
    let steps: Vec<&str> = steps.collect();
    assert!((8..=14).contains(&steps.len()), "{} steps", steps.len());
    assert!(steps.iter().all(|step| step.contains(".rs`")), "every step names its file");
}

#[test]
fn exit_statuses_are_documented() {
    let files = files();
    let statuses = tree::exit_statuses(&file(&files, "core/src/fatal.rs").text);
    assert!(statuses.len() > 10, "the table of causes was not found");
    let page = &file(&files, "docs/configuration.md").text;
    for status in 0..=2 {
        assert!(
            page.contains(&format!("| {status} |")),
            "exit status {status} is not in docs/configuration.md"
        );
    }
    for (status, name) in statuses {
        assert!(
            page.contains(&format!("| {status} |")),
            "exit status {status} ({name}) is not in docs/configuration.md"
        );
    }
}

#[test]
fn the_readme_gives_the_commands_a_newcomer_needs() {
    let files = files();
    let readme = &file(&files, "README.md").text;
    for needed in [
        "cargo run --release -- serve",
        "cargo test",
        "kcat -P",
        "kcat -C",
        "heddle produce",
        "heddle consume",
    ] {
        assert!(readme.contains(needed), "{needed:?} is not in README.md");
    }
}
