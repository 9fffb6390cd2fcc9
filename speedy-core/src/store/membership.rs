//! Which of the directories that were named belong to the store, which are new, and which are missing.
//!
//! Each directory keeps a list of all that the store has, and of those that it was told to forget. Such a list only
//! grows, and the truth is what all lists say together: so a change that a crash has cut off half-way, or that one
//! directory has slept through, is finished by the next start that sees a directory which knows of it.

use std::path::{Path, PathBuf};

use super::disk::{Disk, Site};
use super::format::{MAX_DIRECTORIES, Siblings, Superblock};
use super::{OpenError, StoreOptions, now, superblock};
use crate::id::{DirectoryId, NodeId, StoreId};

/// The directories of a store as this start finds them.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) store: StoreId,
    pub(super) node: NodeId,
    /// At least one, in order of their ordinals.
    pub(super) present: Vec<Member>,
    /// Directories of the store that are not served.
    pub(super) absent: Vec<Absent>,
}

/// A directory of the store, locked.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) disk: Box<dyn Disk>,
    pub(super) superblock: Superblock,
    /// `None` where its list is damaged.
    siblings: Option<Siblings>,
    has_volumes: bool,
}

/// A directory of the store that is not there, or can't be read.
#[derive(Debug)]
pub(super) struct Absent {
    pub(super) path: Option<PathBuf>,
    pub(super) id: Option<DirectoryId>,
    /// Why it can't be read; `None` where nothing is.
    pub(super) reason: Option<String>,
}

/// Finds out which directories belong to the store, makes a store where there is none, and takes new directories in
/// where none is missing. With `forget_missing` those that are missing are given up for good. Where the store is only to
/// be read nothing is made and nothing changed.
pub(super) fn resolve(sites: Vec<Box<dyn Site>>, options: &StoreOptions) -> Result<Membership, OpenError> {
    let (forget_missing, is_read_only) = (options.forget_missing, options.is_read_only());
    let mut sites = Sites::look_at(sites, is_read_only)?;
    if sites.found.is_empty() {
        if let Some((_, error)) = sites.unreadable.pop() {
            return Err(error);
        }
        if let Some(vacant) = sites.vacant.first().filter(|_| is_read_only) {
            return Err(OpenError::NoStore { path: vacant.path().to_path_buf() });
        }
        sites.found_store()?;
    }
    check_identities(&sites.found)?;
    sites.set_beginners_apart();
    let Sites { mut found, vacant, unreadable } = sites;
    let (mut known, missing) = merge(&found, forget_missing)?;
    let mut absent = Vec::new();
    let mut is_larger = false;
    if missing.is_empty() {
        // Nobody knows such a directory, so it is to be a new one, and can't.
        if let Some((_, error)) = unreadable.into_iter().next() {
            return Err(error);
        }
        // Those would join at the next start.
        for vacant in vacant.into_iter().filter(|_| !is_read_only) {
            found.push(adopt(vacant, &found, &mut known)?);
            is_larger = true;
        }
        // Somebody else may have been at a vacant directory before it was locked.
        check_identities(&found)?;
    } else {
        absent = absentees(missing, vacant, unreadable);
    }
    check_ordinals(&found)?;
    if !is_read_only {
        spread(&mut found, &known, is_larger)?;
    }
    found.sort_by_key(|member| member.superblock.ordinal);
    let Superblock { store, node, .. } = found[0].superblock;
    Ok(Membership { store, node, present: found, absent })
}

/// The directories that were named, by what is in them.
struct Sites {
    found: Vec<Member>,
    vacant: Vec<Vacant>,
    unreadable: Vec<(Box<dyn Site>, OpenError)>,
}

/// A directory that is of no store, or does not exist.
enum Vacant {
    Untouched(Box<dyn Site>),
    /// Locked, with the superblock of a beginning that a crash has cut off.
    Begun(Box<dyn Disk>),
}

impl Vacant {
    fn path(&self) -> &Path {
        match self {
            Self::Untouched(site) => site.path(),
            Self::Begun(disk) => disk.path(),
        }
    }
}

impl Sites {
    fn look_at(sites: Vec<Box<dyn Site>>, is_read_only: bool) -> Result<Self, OpenError> {
        for (index, site) in sites.iter().enumerate() {
            if let Some(same) = sites[..index].iter().find(|other| site.is_same(other.path())) {
                return Err(same_directory(same.path(), site.path()));
            }
        }
        let mut sorted = Self { found: Vec::new(), vacant: Vec::new(), unreadable: Vec::new() };
        for site in sites {
            match look_at(&*site, is_read_only) {
                Ok(Some(member)) => sorted.found.push(member),
                Ok(None) => sorted.vacant.push(Vacant::Untouched(site)),
                Err(
                    error @ (OpenError::Io { .. }
                    | OpenError::NotWritable { .. }
                    | OpenError::Identity { .. }),
                ) => {
                    sorted.unreadable.push((site, error));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sorted)
    }

    /// Makes a store in the first directory. The others join it like any new directory.
    fn found_store(&mut self) -> Result<(), OpenError> {
        if self.vacant.is_empty() {
            return Err(OpenError::Option("a store needs a directory, and none was named".into()));
        }
        let disk = match self.vacant.remove(0) {
            Vacant::Untouched(site) => site.take()?,
            Vacant::Begun(disk) => disk,
        };
        let member = match read(disk)? {
            Ok(member) => member,
            Err(disk) => {
                let (store, node, directory) = (StoreId::random(), NodeId::random(), DirectoryId::random());
                let superblock = Superblock { store, node, created: now(), directory, ordinal: 0 };
                let siblings = Siblings { members: vec![directory], forgotten: Vec::new() };
                superblock::write(&*disk, &superblock, &siblings)?;
                Member { disk, superblock, siblings: Some(siblings), has_volumes: false }
            }
        };
        self.found.push(member);
        Ok(())
    }

    /// A directory that holds no volume and that no other knows was being added when a crash came. It begins again:
    /// another may have been added meanwhile in its place.
    fn set_beginners_apart(&mut self) {
        let lists = |found: &[Member], but: usize| -> Vec<Siblings> {
            let others = found.iter().enumerate().filter(|(index, _)| *index != but);
            others.filter_map(|(_, member)| member.siblings.clone()).collect()
        };
        for index in (0..self.found.len()).rev() {
            let lists = lists(&self.found, index);
            let member = &self.found[index];
            let id = member.superblock.directory;
            let is_known =
                lists.iter().any(|list| list.members.contains(&id) || list.forgotten.contains(&id));
            if !member.has_volumes && !lists.is_empty() && !is_known {
                let member = self.found.remove(index);
                self.vacant.push(Vacant::Begun(member.disk));
            }
        }
    }
}

fn look_at(site: &dyn Site, is_read_only: bool) -> Result<Option<Member>, OpenError> {
    let names = site.look().map_err(|e| OpenError::from_write(site.path().to_path_buf(), e))?;
    // Before that is known nothing is made in it, not even a lock: it may be where a disk is not mounted.
    if !superblock::is_taken(&names) {
        return Ok(None);
    }
    let disk = if is_read_only { site.peek()? } else { site.take()? };
    Ok(read(disk)?.ok())
}

/// What a locked directory says of itself. One that says nothing is given back.
fn read(disk: Box<dyn Disk>) -> Result<Result<Member, Box<dyn Disk>>, OpenError> {
    Ok(match superblock::read(&*disk)? {
        None => Err(disk),
        Some(superblock::Found { superblock, siblings, has_volumes }) => {
            Ok(Member { disk, superblock, siblings, has_volumes })
        }
    })
}

fn same_directory(first: &Path, second: &Path) -> OpenError {
    OpenError::SameDirectory { first: first.to_path_buf(), second: second.to_path_buf() }
}

/// All directories must be of one store, and each another one of it.
fn check_identities(found: &[Member]) -> Result<(), OpenError> {
    for_each_pair(found, |first, second, [a, b]| {
        if a.store != b.store {
            return Err(OpenError::OtherStore { first, first_store: a.store, second, second_store: b.store });
        }
        if a.directory == b.directory { Err(OpenError::Clash { first, second }) } else { Ok(()) }
    })
}

/// Two directories that number their volumes alike never saw each other: each was given up in favour of the other.
fn check_ordinals(found: &[Member]) -> Result<(), OpenError> {
    for_each_pair(found, |first, second, [a, b]| {
        if a.ordinal == b.ordinal { Err(OpenError::Clash { first, second }) } else { Ok(()) }
    })
}

fn for_each_pair(
    found: &[Member],
    check: impl Fn(PathBuf, PathBuf, [&Superblock; 2]) -> Result<(), OpenError>,
) -> Result<(), OpenError> {
    for (index, second) in found.iter().enumerate() {
        for first in &found[..index] {
            let path = |member: &Member| member.disk.path().to_path_buf();
            check(path(first), path(second), [&first.superblock, &second.superblock])?;
        }
    }
    Ok(())
}

/// What all lists say together, and which of the members were not found.
fn merge(found: &[Member], forget_missing: bool) -> Result<(Siblings, Vec<DirectoryId>), OpenError> {
    if !forget_missing && found.iter().all(|member| member.siblings.is_none()) {
        return Err(OpenError::Siblings { path: found[0].disk.path().to_path_buf() });
    }
    let mut known = Siblings::default();
    for list in found.iter().filter_map(|member| member.siblings.as_ref()) {
        add(&mut known.members, &list.members);
        add(&mut known.forgotten, &list.forgotten);
    }
    for Member { disk, superblock, .. } in found {
        if known.forgotten.contains(&superblock.directory) {
            return Err(OpenError::Forgotten { path: disk.path().to_path_buf() });
        }
        add(&mut known.members, &[superblock.directory]);
    }
    known.members.retain(|id| !known.forgotten.contains(id));
    let is_found = |id: &DirectoryId| found.iter().any(|member| member.superblock.directory == *id);
    let mut missing: Vec<_> = known.members.iter().copied().filter(|id| !is_found(id)).collect();
    if forget_missing {
        known.members.retain(is_found);
        known.forgotten.append(&mut missing);
    }
    known.settle();
    Ok((known, missing))
}

fn add(ids: &mut Vec<DirectoryId>, more: &[DirectoryId]) {
    for id in more {
        if !ids.contains(id) {
            ids.push(*id);
        }
    }
}

/// Makes a vacant directory one of the store's. It knows all the others before any of them knows it.
fn adopt(vacant: Vacant, found: &[Member], known: &mut Siblings) -> Result<Member, OpenError> {
    if known.members.len() == MAX_DIRECTORIES {
        let path = vacant.path().display();
        return Err(OpenError::Option(format!(
            "{path} would be one more than {MAX_DIRECTORIES} directories"
        )));
    }
    let disk = match vacant {
        Vacant::Begun(disk) => disk,
        Vacant::Untouched(site) => {
            // Now that those before it have been made, the same path in another spelling shows.
            if let Some(same) = found.iter().find(|member| site.is_same(member.disk.path())) {
                return Err(same_directory(same.disk.path(), site.path()));
            }
            match read(site.take()?)? {
                Ok(member) => return Ok(member),
                Err(disk) => disk,
            }
        }
    };
    let is_free = |ordinal: &u8| found.iter().all(|member| member.superblock.ordinal != *ordinal);
    let ordinal = (0..=u8::MAX).find(is_free).expect("there are fewer directories than ordinals");
    let directory = DirectoryId::random();
    let superblock = Superblock { directory, ordinal, created: now(), ..found[0].superblock };
    known.members.push(directory);
    known.settle();
    superblock::write(&*disk, &superblock, known)?;
    tracing::info!(path = %disk.path().display(), %directory, "a directory joins the store");
    Ok(Member { disk, superblock, siblings: Some(known.clone()), has_volumes: false })
}

/// Brings all lists to what they say together. Where the store grows that must succeed everywhere: opened alone, a
/// directory that does not know of another would not miss it. All else is made up for next time.
fn spread(found: &mut [Member], known: &Siblings, must_succeed: bool) -> Result<(), OpenError> {
    for Member { disk, superblock, siblings, .. } in found {
        if siblings.as_ref() == Some(known) {
            continue;
        }
        match superblock::write(&**disk, superblock, known) {
            Err(error) if must_succeed => return Err(error),
            Err(error) => tracing::warn!(%error, "a directory does not learn of the others"),
            Ok(()) => *siblings = Some(known.clone()),
        }
    }
    Ok(())
}

/// What can be said of the members that were not found. An empty directory is taken for one where a disk is not
/// mounted: nobody can tell it from a new one.
fn absentees(
    missing: Vec<DirectoryId>,
    vacant: Vec<Vacant>,
    unreadable: Vec<(Box<dyn Site>, OpenError)>,
) -> Vec<Absent> {
    let unreadable =
        unreadable.into_iter().map(|(site, error)| (site.path().to_path_buf(), Some(error.to_string())));
    let vacant = vacant.into_iter().map(|vacant| (vacant.path().to_path_buf(), None));
    let places: Vec<_> = unreadable.chain(vacant).collect();
    // Which directory is where can only be told if there is one of each.
    let is_certain = places.is_empty() || (missing.len(), places.len()) == (1, 1);
    let count = missing.len().max(places.len());
    let mut places = places.into_iter();
    (0..count)
        .map(|index| {
            let id = missing.get(index).copied().filter(|_| is_certain);
            let (path, reason) = places.next().map_or((None, None), |(path, reason)| (Some(path), reason));
            Absent { path, id, reason }
        })
        .collect()
}
