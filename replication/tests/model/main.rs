//! The replication protocol under the model checker: small instances exhaustively, and what happens when a rule is taken out.

mod checked;
mod healing;
mod instance;
mod instances;
mod omitted;
mod report;
mod schedules;
mod world;

use report::Report;

/// Checks the instances and expects that nothing breaks.
fn expect_safe(instances: Vec<(&'static str, instance::Instance)>) {
    for (name, instance) in instances {
        let report = Report::of(instance, None);
        println!("{name}: {report}");
        assert_eq!(report.broken, None, "{name}: {report:?}");
    }
}

#[test]
fn small_instances_are_safe() {
    expect_safe(instances::small());
}

#[test]
fn every_state_heals() {
    expect_safe(instances::healing());
}

#[test]
fn without_any_one_rule_something_breaks() {
    let mut unexpected = Vec::new();
    for (rule, steps, instance) in omitted::instances() {
        let report = Report::of(instance.without(rule), None);
        println!("without {rule:?}: {report}");
        if report.broken.is_none_or(|(_, actions)| actions.len() != steps) {
            unexpected.push(rule);
        }
    }
    assert_eq!(unexpected, [], "nothing broke without these, or it took another number of steps");
}

#[test]
fn what_breaks_without_a_rule_holds_with_it() {
    for (rule, steps, instance) in omitted::instances() {
        let report = Report::of(instance, Some(steps));
        println!("with {rule:?}: {report}");
        assert_eq!(report.broken, None, "{rule:?}: {report:?}");
    }
}

#[test]
fn one_rule_is_implied_by_the_others() {
    let (rule, instance) = omitted::implied();
    let report = Report::of(instance.without(rule), None);
    println!("without {rule:?}: {report}");
    assert_eq!(report.broken, None, "{rule:?} is needed: {report:?}");
}
