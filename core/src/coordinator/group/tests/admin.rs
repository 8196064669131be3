//! ListGroups, DescribeGroups and DeleteGroups.

use heddle_proto::error::ErrorCode;

use super::harness::*;
use crate::coordinator::group::message::{
    DeleteGroups, DescribeGroups, DescribedGroup, GroupState, ListGroups, Reply, Request,
};

fn three_groups() -> Driver {
    let mut driver = Driver::new();
    let _ = driver.stable(vec![join("").instance("i")]);
    let _ = driver.commit(commit("a", 0, 1).change(|commit| commit.group = "simple".into()));
    let mut modern = enter("one", &["a"]);
    modern.group = "modern".into();
    let _ = driver.beat(modern);
    driver
}

fn list(driver: &mut Driver, states: &[&str], types: &[&str]) -> Vec<String> {
    let words = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    match driver.call(Request::ListGroups(ListGroups { states: words(states), types: words(types) })) {
        Reply::ListGroups(answer) => answer
            .groups
            .into_iter()
            .map(|group| {
                format!(
                    "{} '{}' {} {}",
                    group.group,
                    group.protocol_type,
                    group.state.name(),
                    group.group_type.name()
                )
            })
            .collect(),
        other => panic!("{other:?}"),
    }
}

fn describe(driver: &mut Driver, group: &str, unknown_is_error: bool) -> DescribedGroup {
    let request = DescribeGroups { groups: vec![group.into()], unknown_is_error };
    match driver.call(Request::DescribeGroups(request)) {
        Reply::DescribeGroups(mut answer) => answer.groups.remove(0),
        other => panic!("{other:?}"),
    }
}

fn delete(driver: &mut Driver, groups: &[&str]) -> Vec<ErrorCode> {
    let groups = groups.iter().map(|group| (*group).into()).collect();
    match driver.call(Request::DeleteGroups(DeleteGroups { groups })) {
        Reply::DeleteGroups(answer) => answer.groups.into_iter().map(|result| result.error).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn groups_are_listed_by_state_and_type() {
    let mut driver = three_groups();
    let (classic, modern, simple) =
        ("g 'consumer' Stable classic", "modern 'consumer' Stable consumer", "simple '' Empty classic");
    let table: [(&[&str], &[&str], &[&str]); 7] = [
        (&[], &[], &[classic, modern, simple]),
        (&["stable"], &[], &[classic, modern]),
        (&["Empty", "Dead"], &[], &[simple]),
        (&[], &["Consumer"], &[modern]),
        (&["Stable"], &["classic"], &[classic]),
        (&["Assigning"], &[], &[]),
        (&[], &["share"], &[]),
    ];
    for (states, types, expected) in table {
        assert_eq!(list(&mut driver, states, types), expected, "{states:?} {types:?}");
    }
}

#[test]
fn a_classic_group_is_described_and_others_are_dead() {
    let mut driver = three_groups();
    let group = describe(&mut driver, GROUP, true);
    assert_eq!((group.error, group.state), (ErrorCode::None, GroupState::Stable));
    assert_eq!((group.protocol_type.as_str(), group.protocol.as_str()), ("consumer", "range"));
    let member = &group.members[0];
    assert_eq!((&*member.client.id, &*member.client.host), ("client", "/127.0.0.1"));
    assert_eq!((member.instance.as_ref().unwrap().as_str(), &member.assignment[..]), ("i", &b"x"[..]));
    assert!(!member.metadata.is_empty());
    for unknown in ["modern", "nothing"] {
        let group = describe(&mut driver, unknown, false);
        assert_eq!((group.error, group.state), (ErrorCode::None, GroupState::Dead));
        let group = describe(&mut driver, unknown, true);
        assert_eq!((group.error, group.state), (ErrorCode::GroupIdNotFound, GroupState::Dead));
    }
    let _ = driver.join(join(""));
    let group = describe(&mut driver, GROUP, true);
    assert_eq!((group.state, group.protocol.as_str()), (GroupState::PreparingRebalance, ""));
    assert!(group.members[0].assignment.is_empty() && group.members[0].metadata.is_empty());
}

#[test]
fn only_empty_groups_are_deleted_and_nothing_of_them_stays() {
    let mut driver = three_groups();
    let (busy, ok, missing) = (ErrorCode::NonEmptyGroup, ErrorCode::None, ErrorCode::GroupIdNotFound);
    assert_eq!(
        delete(&mut driver, &[GROUP, "modern", "simple", "nothing", ""]),
        [busy, busy, ok, missing, missing]
    );
    let mut leaving = beat("one", -1);
    leaving.group = "modern".into();
    let _ = driver.beat(leaving);
    let _ = driver.leave(&[("", Some("i"))]);
    let pending = driver.join(join("").id_required());
    assert_eq!(driver.joined(pending).error, ErrorCode::MemberIdRequired);
    assert_eq!(delete(&mut driver, &[GROUP, "modern", GROUP]), [ok, ok, missing]);
    assert!(driver.machine.snapshot().is_empty() && driver.replayed().snapshot().is_empty());
    assert_eq!(driver.machine.deadlines.len(), 1, "no timer but the search for expired offsets");
}
