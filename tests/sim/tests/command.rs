//! The simulator's command: what it prints can be run again, and its status says whether all is well.

use std::process::{Command, Output};

fn sim(arguments: &[&str]) -> Output {
    let command = Command::new(env!("CARGO_BIN_EXE_heddle-sim")).args(arguments).output();
    command.expect("the simulator starts")
}

fn printed(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn one_seed_is_shown_event_by_event_and_again_the_same() {
    let (first, again) = (sim(&["one", "5"]), sim(&["one", "5"]));
    assert!(first.status.success());
    assert_eq!(printed(&first), printed(&again));
    let printed = printed(&first);
    assert!(printed.starts_with("seed 5: Plan {") && printed.contains("node 0 starts: Ok(())"), "{printed}");
    assert!(printed.contains("1 seeds, 0 failed []") && printed.contains("trace "), "{printed}");
}

#[test]
fn many_seeds_end_with_a_summary() {
    let output = sim(&["many", "4", "10"]);
    assert!(output.status.success());
    assert!(printed(&output).contains("4 seeds, 0 failed []; "), "{}", printed(&output));
}

#[test]
fn a_seed_run_twice_has_one_trace() {
    let output = sim(&["twice", "6"]);
    let printed = printed(&output);
    let traces: Vec<&str> = printed.trim_end().rsplitn(3, ' ').take(2).collect();
    assert!(output.status.success() && traces[0].len() == 16 && traces[0] == traces[1], "{printed}");
}

#[test]
fn what_it_does_not_understand_it_refuses() {
    for arguments in [&[][..], &["one"], &["many", "x"], &["all"]] {
        assert!(!sim(arguments).status.success(), "{arguments:?}");
    }
}
