//! As whom a worker runs, found out at each start: users come and go while a runtime lives.

use std::ffi::OsString;
use std::io;

use crate::config::Isolation;
use crate::exit::StartFailure;
use crate::worker::unix::{Account, Person, account, group_number, id_number};

/// Whom a worker becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    /// User and group that its files belong to.
    pub(super) owner: Owner,
    /// Whom the child turns into; `None`: it is that already.
    pub(super) person: Option<Person>,
    /// Its `HOME` and `USER`; `None`: as the runtime's.
    pub(super) home: Option<(OsString, OsString)>,
}

/// To whom files belong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Owner {
    /// The runtime itself.
    pub(super) fn ourselves() -> Self {
        let uid = rustix::process::geteuid().as_raw();
        Self { uid, gid: rustix::process::getegid().as_raw() }
    }
}

/// Finds out who `user` and `group` are, and whether we may start a worker as them.
pub(super) fn resolve(isolation: &Isolation) -> Result<Identity, StartFailure> {
    let own = Owner::ourselves();
    let user = isolation.user.as_deref().map(|name| known_user(name, isolation)).transpose()?;
    let gid = match &isolation.group {
        Some(name) => Some(known_group(name)?),
        None => user.as_ref().map(|user| user.gid),
    };
    let owner = Owner { uid: user.as_ref().map_or(own.uid, |user| user.uid), gid: gid.unwrap_or(own.gid) };
    let home = user.as_ref().map(|user| (user.home.clone(), user.name.clone()));
    if !isolation.names_somebody() {
        return Ok(Identity { owner, person: None, home });
    }
    if own.uid != 0 {
        return if owner == own {
            Ok(Identity { owner, person: None, home })
        } else {
            Err(StartFailure::NotPermitted { detail: not_root(isolation, own) })
        };
    }
    let mut groups = user.map(|user| user.groups).unwrap_or_default();
    if !groups.contains(&owner.gid) {
        groups.push(owner.gid);
    }
    Ok(Identity { owner, person: Some(Person { uid: owner.uid, gid: owner.gid, groups }), home })
}

/// A number needs no entry as long as its group is named.
fn known_user(name: &str, isolation: &Isolation) -> Result<Account, StartFailure> {
    if let Some(account) = account(name).map_err(|error| unanswered(name, &error))? {
        return Ok(account);
    }
    match (id_number(name), &isolation.group) {
        (Some(uid), Some(_)) => {
            Ok(Account { name: name.into(), uid, gid: uid, groups: Vec::new(), home: "/".into() })
        }
        (Some(uid), None) => Err(StartFailure::NoSuchUser {
            name: format!("{uid} (a number without an entry among the users needs `group` beside it)"),
        }),
        (None, _) => Err(StartFailure::NoSuchUser { name: name.to_owned() }),
    }
}

fn known_group(name: &str) -> Result<u32, StartFailure> {
    let found = group_number(name).map_err(|error| unanswered(name, &error))?;
    found.ok_or_else(|| StartFailure::NoSuchUser { name: format!("group {name}") })
}

fn unanswered(name: &str, error: &io::Error) -> StartFailure {
    StartFailure::System { detail: format!("cannot look up `{name}`: {error}") }
}

fn not_root(isolation: &Isolation, own: Owner) -> String {
    let words = |key: &str, name: &Option<String>| name.as_ref().map(|name| format!("{key} `{name}`"));
    let whom: Vec<String> =
        [words("user", &isolation.user), words("group", &isolation.group)].into_iter().flatten().collect();
    format!(
        "regrow runs as uid {} and cannot start a worker as {}: run regrow as root or as that user, or leave \
         `user` and `group` out",
        own.uid,
        whom.join(", ")
    )
}

/// Whether a user and group that the settings name exist; the words if one does not. For `check`.
pub(crate) fn missing(isolation: &Isolation) -> Option<String> {
    let user = isolation.user.as_deref().map(|name| known_user(name, isolation));
    let group = isolation.group.as_deref().map(known_group);
    let failure = user.and_then(Result::err).or_else(|| group.and_then(Result::err))?;
    Some(failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::process::tests::isolation;

    #[test]
    fn without_a_name_nothing_changes() {
        let found = resolve(&isolation()).unwrap();
        assert_eq!(found, Identity { owner: Owner::ourselves(), person: None, home: None });
    }

    #[test]
    fn who_does_not_exist_is_named() {
        let isolation = Isolation { user: Some("no-such-user".to_owned()), ..isolation() };
        assert_eq!(resolve(&isolation), Err(StartFailure::NoSuchUser { name: "no-such-user".to_owned() }));
        assert_eq!(missing(&isolation).unwrap(), "no such user or group: no-such-user");
    }

    #[test]
    fn a_number_that_nobody_has_needs_a_group() {
        let alone = Isolation { user: Some("3999999999".to_owned()), ..isolation() };
        assert!(missing(&alone).unwrap().contains("needs `group` beside it"), "{:?}", missing(&alone));
        let beside = Isolation { group: Some("3999999999".to_owned()), ..alone };
        assert_eq!(missing(&beside), None);
    }

    #[test]
    fn only_root_can_become_somebody_else() {
        let isolation = Isolation { user: Some("nobody".to_owned()), ..isolation() };
        let found = resolve(&isolation);
        if Owner::ourselves().uid == 0 {
            let person = found.unwrap().person.unwrap();
            assert_ne!(person.uid, 0);
            assert!(person.groups.contains(&person.gid));
        } else {
            assert!(matches!(found, Err(StartFailure::NotPermitted { .. })), "{found:?}");
        }
    }
}
