use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;
use crate::id::GroupId;
use MemberState::{CatchingUp, InSync, Joining, Lost, ReadOnly, Settling};

const GROUP: GroupId = GroupId::new(1);

fn node(number: u8) -> NodeId {
    NodeId::from_bytes([number; 16])
}

fn beat(number: u8) -> Heartbeat {
    Heartbeat::new(node(number), GROUP, format!("h{number}:1"))
}

fn hear(group: &mut Option<Group>, beat: &Heartbeat) -> Result<(), MasterError> {
    if let Some(next) = heard(group.as_ref(), beat, 3, |_| true) {
        *group = Some(next?);
    }
    Ok(())
}

fn lose(group: &mut Option<Group>, numbers: &[u8]) {
    let is_silent = |member: &Member| numbers.iter().any(|&number| member.node == node(number));
    if let Some(next) = silence(group.as_ref().unwrap(), is_silent) {
        *group = Some(next);
    }
}

fn complete() -> Option<Group> {
    let mut group = None;
    for number in 1..=3 {
        hear(&mut group, &beat(number)).unwrap();
    }
    group
}

fn states(group: &Option<Group>) -> Vec<MemberState> {
    group.as_ref().unwrap().members.iter().map(|member| member.state).collect()
}

fn caught_up(number: u8, version: u64) -> Heartbeat {
    Heartbeat { caught_up: Some(GroupVersion::new(version)), ..beat(number) }
}

#[test]
fn a_member_that_was_away_while_chunks_came_settles_before_it_is_in_sync() {
    let mut group = complete();
    assert_eq!((states(&group), group.as_ref().unwrap().version.get()), (vec![InSync; 3], 1));
    lose(&mut group, &[2]);
    assert!(group.as_ref().unwrap().is_writable() && !group.as_ref().unwrap().is_complete());
    hear(&mut group, &beat(2)).unwrap();
    assert_eq!(
        (states(&group), group.as_ref().unwrap().version.get()),
        (vec![InSync, CatchingUp, InSync], 3)
    );
    // What it found equal under an older version says nothing of this one.
    hear(&mut group, &caught_up(2, 2)).unwrap();
    assert_eq!(states(&group)[1], CatchingUp);
    hear(&mut group, &caught_up(2, 3)).unwrap();
    assert_eq!((states(&group)[1], group.as_ref().unwrap().recipients().count()), (Settling, 3));
    hear(&mut group, &caught_up(2, 3)).unwrap();
    assert_eq!(states(&group)[1], Settling, "that was before writes waited for it");
    hear(&mut group, &caught_up(2, 4)).unwrap();
    assert_eq!((states(&group), group.as_ref().unwrap().version.get()), (vec![InSync; 3], 5));
}

#[test]
fn members_that_were_away_while_none_came_are_in_sync_at_once() {
    let mut group = complete();
    lose(&mut group, &[1, 2, 3]);
    assert_eq!(states(&group), [Lost; 3]);
    assert_eq!(group.as_ref().unwrap().holders().count(), 3);
    hear(&mut group, &beat(3)).unwrap();
    assert!(!group.as_ref().unwrap().is_writable());
    hear(&mut group, &beat(1)).unwrap();
    assert_eq!(states(&group), [InSync, Lost, InSync]);
    // Now it takes chunks again, without the one that is still away.
    hear(&mut group, &beat(2)).unwrap();
    assert_eq!(states(&group)[1], CatchingUp);
}

#[test]
fn one_that_stops_while_it_settles_begins_again() {
    let mut group = complete();
    lose(&mut group, &[2]);
    hear(&mut group, &beat(2)).unwrap();
    hear(&mut group, &caught_up(2, 3)).unwrap();
    lose(&mut group, &[2]);
    hear(&mut group, &caught_up(2, 4)).unwrap();
    assert_eq!(states(&group)[1], CatchingUp);
}

#[test]
fn a_store_that_lost_chunks_is_not_in_sync() {
    let mut group = complete();
    let damaged = Heartbeat { has_lost: true, ..beat(1) };
    hear(&mut group, &damaged).unwrap();
    assert_eq!(states(&group), [CatchingUp, InSync, InSync]);
    // The last that has most of it stays: there is nobody to copy from.
    let mut alone = None;
    let single = |beat: &Heartbeat, group: &mut Option<Group>| {
        if let Some(next) = heard(group.as_ref(), beat, 1, |_| true) {
            *group = Some(next.unwrap());
        }
    };
    single(&beat(1), &mut alone);
    single(&damaged, &mut alone);
    assert_eq!(states(&alone), [InSync]);
}

#[test]
fn a_full_disk_makes_its_group_read_only() {
    let mut group = complete();
    let full = Heartbeat { is_short_of_room: true, ..beat(3) };
    hear(&mut group, &full).unwrap();
    assert_eq!(states(&group), [InSync, InSync, ReadOnly]);
    let seen = group.as_ref().unwrap();
    assert!(!seen.is_writable() && seen.is_complete() && seen.recipients().count() == 3);
    hear(&mut group, &beat(3)).unwrap();
    assert!(group.as_ref().unwrap().is_writable());
}

#[test]
fn an_empty_node_takes_the_place_of_one_that_is_gone_and_has_to_catch_up() {
    let mut group = complete();
    assert!(matches!(hear(&mut group, &beat(9)), Err(MasterError::Refused(_))));
    lose(&mut group, &[1]);
    let not_yet = heard(group.as_ref(), &beat(9), 3, |_| false).unwrap();
    assert!(matches!(not_yet, Err(MasterError::Refused(_))), "it was away for a moment only");
    let holds = Heartbeat { highest_chunk: Some(crate::id::ChunkId::new(3)), ..beat(9) };
    assert!(matches!(hear(&mut group, &holds), Err(MasterError::Refused(_))), "foreign chunks");
    hear(&mut group, &beat(9)).unwrap();
    assert_eq!(states(&group), [InSync, InSync, CatchingUp]);
    assert!(hear(&mut group, &beat(1)).is_err(), "its place is taken");
}

#[test]
fn nobody_takes_the_place_of_the_only_ones_that_hold_everything() {
    let mut group = complete();
    lose(&mut group, &[1, 2]);
    assert!(hear(&mut group, &beat(9)).is_err());
}

#[test]
fn a_member_that_is_to_leave_stays_until_another_is_in_sync() {
    let mut group = complete();
    let order = |group: &mut Option<Group>, order| match ordered(group.as_ref().unwrap(), order) {
        Some(next) => next.map(|next| *group = Some(next)),
        None => Ok(()),
    };
    assert!(order(&mut group, GroupOrder::Leave(node(9))).is_err());
    order(&mut group, GroupOrder::Leave(node(1))).unwrap();
    order(&mut group, GroupOrder::Leave(node(1))).unwrap();
    assert_eq!((states(&group), group.as_ref().unwrap().version.get()), (vec![InSync; 3], 2));
    hear(&mut group, &beat(4)).unwrap();
    assert!(order(&mut group, GroupOrder::Stay(node(1))).is_err(), "it has a successor");
    hear(&mut group, &caught_up(4, 3)).unwrap();
    assert_eq!(states(&group), [InSync, InSync, InSync, Settling]);
    hear(&mut group, &caught_up(4, 4)).unwrap();
    assert_eq!(states(&group), [InSync; 3]);
    assert!(group.as_ref().unwrap().member(node(1)).is_none());
}

#[test]
fn a_group_that_begins_with_one_full_member_copies_it_to_the_others() {
    let mut group = None;
    hear(&mut group, &beat(1)).unwrap();
    hear(&mut group, &Heartbeat { highest_chunk: Some(crate::id::ChunkId::new(70)), ..beat(2) }).unwrap();
    assert_eq!(states(&group), [Joining, Joining]);
    hear(&mut group, &beat(3)).unwrap();
    assert_eq!(states(&group), [CatchingUp, InSync, CatchingUp]);
}

#[test]
fn a_group_of_one_grows() {
    let single = heard(None, &beat(1), 1, |_| true).unwrap().unwrap();
    assert!(single.is_complete());
    assert!(ordered(&single, GroupOrder::Replicas(0)).unwrap().is_err());
    let mut group = Some(ordered(&single, GroupOrder::Replicas(3)).unwrap().unwrap());
    assert!(!group.as_ref().unwrap().is_writable() && group.as_ref().unwrap().version > single.version);
    hear(&mut group, &beat(2)).unwrap();
    hear(&mut group, &beat(3)).unwrap();
    assert_eq!(states(&group), [InSync, CatchingUp, CatchingUp]);
}

/// A group in the abstract: nodes that know some version and hold some writes, and a writer that knows some version.
#[derive(Debug)]
struct World {
    group: Option<Group>,
    /// As the writer knows it.
    known: Group,
    nodes: Vec<Node>,
    acknowledged: BTreeSet<u32>,
    next: u32,
}

#[derive(Clone, Debug)]
struct Node {
    version: GroupVersion,
    alive: bool,
    holds: BTreeSet<u32>,
    caught_up: Option<GroupVersion>,
}

#[derive(Clone, Debug)]
enum Event {
    /// The writer writes; the node of this number (if any) does not answer.
    Write(u8),
    WriterLearns,
    Beat(u8),
    /// The master hears nothing of these, dead or alive.
    Silent(Vec<u8>),
    Dies(u8),
    Starts(u8),
    /// A node compares itself with another and takes what it lacks.
    Fetches(u8, u8),
}

fn event() -> impl Strategy<Value = Event> {
    let number = 0..4u8;
    prop_oneof![
        6 => (0..8u8).prop_map(Event::Write),
        3 => Just(Event::WriterLearns),
        6 => number.clone().prop_map(Event::Beat),
        2 => prop::collection::vec(0..4u8, 1..3).prop_map(Event::Silent),
        1 => number.clone().prop_map(Event::Dies),
        2 => number.clone().prop_map(Event::Starts),
        6 => (number.clone(), number).prop_map(|(to, from)| Event::Fetches(to, from)),
    ]
}

impl World {
    fn new() -> Self {
        let group = (0..3).fold(None, |group: Option<Group>, number| {
            heard(group.as_ref(), &beat(number), 3, |_| true).map(Result::unwrap).or(group)
        });
        let known = group.clone().unwrap();
        let node = |_| Node { version: known.version, alive: true, holds: BTreeSet::new(), caught_up: None };
        let nodes = (0..4).map(node).collect();
        Self { known, group, nodes, acknowledged: BTreeSet::new(), next: 0 }
    }

    fn number(member: &Member) -> usize {
        usize::from(member.node.as_bytes()[0])
    }

    fn apply(&mut self, event: Event) {
        let group = self.group.clone().unwrap();
        match event {
            Event::Write(mute) => {
                let write = self.next;
                self.next += 1;
                if !self.known.is_writable() {
                    return;
                }
                let mut all = true;
                let waited: Vec<_> = self.known.recipients().map(Self::number).collect();
                let others: Vec<_> = self.known.catching_up().map(Self::number).collect();
                for number in waited.iter().chain(&others).copied() {
                    let node = &mut self.nodes[number];
                    let takes =
                        node.alive && node.version == self.known.version && number != usize::from(mute);
                    if takes {
                        node.holds.insert(write);
                    }
                    all &= takes || others.contains(&number);
                }
                if all {
                    self.acknowledged.insert(write);
                }
            }
            Event::WriterLearns => self.known = group,
            Event::Beat(number) => {
                let node = &self.nodes[usize::from(number)];
                if !node.alive {
                    return;
                }
                let highest_chunk = node.holds.last().map(|&write| crate::id::ChunkId::new(write.into()));
                let said = Heartbeat { caught_up: node.caught_up, highest_chunk, ..beat(number) };
                if hear(&mut self.group, &said).is_ok() {
                    self.nodes[usize::from(number)].version = self.group.as_ref().unwrap().version;
                }
            }
            Event::Silent(numbers) => lose(&mut self.group, &numbers),
            Event::Dies(number) => self.nodes[usize::from(number)].alive = false,
            Event::Starts(number) => {
                let node = &mut self.nodes[usize::from(number)];
                if !node.alive {
                    (node.alive, node.caught_up) = (true, None);
                }
            }
            Event::Fetches(to, from) => {
                // The topology that it goes by is any that it has seen; the newest is the hardest case.
                let is_source = group.member(node(from)).is_some_and(Member::is_in_sync);
                let (to, from) = (usize::from(to), usize::from(from));
                let ours = self.nodes[to].version;
                let both = self.nodes[to].alive && self.nodes[from].alive && to != from;
                if both && is_source && self.nodes[from].version >= ours {
                    let held = self.nodes[from].holds.clone();
                    self.nodes[to].holds.extend(held);
                    self.nodes[to].caught_up = Some(ours);
                }
            }
        }
    }

    fn check(&self) {
        let group = self.group.as_ref().unwrap();
        for member in group.holders() {
            let holds = &self.nodes[Self::number(member)].holds;
            let missing: Vec<_> = self.acknowledged.difference(holds).collect();
            assert!(missing.is_empty(), "{} is {} and misses {missing:?}", member.node, member.state);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn whoever_is_in_sync_has_every_acknowledged_write(events in prop::collection::vec(event(), 1..120)) {
        let mut world = World::new();
        for event in events {
            world.apply(event);
            world.check();
        }
    }
}
