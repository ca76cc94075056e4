//! Who is at the other end of the control socket, and what that allows.
//!
//! The kernel says which user connected; nothing the client sends can change it. The runtime's own user and
//! root may do everything. Members of `runtime.control.group` have that group's role. This is a boundary
//! against other users, not against workers of the same user, who want a `user` of their own.

use std::path::Path;

use crate::config::SocketSettings;

use super::problem::Problem;

/// What a peer may do; each role includes those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// Look.
    Viewer,
    /// Act on workers.
    Operator,
    /// End the runtime.
    Admin,
}

/// The user at the other end.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    /// A user name, or `uid 1000`.
    pub(crate) name: String,
    pub(crate) role: Role,
}

impl Peer {
    /// Refuses those below `role`.
    pub(crate) fn require(&self, role: Role) -> Result<(), Problem> {
        if self.role >= role {
            return Ok(());
        }
        let detail = format!("{} has the role {:?}, this needs {role:?}", self.name, self.role);
        Err(Problem::forbidden("not_permitted", detail))
    }
}

/// The user database, as files: no name service can hang the API.
pub(crate) struct Users {
    passwd: String,
    group: String,
}

impl Users {
    pub(crate) fn read() -> Self {
        let text = |path: &str| std::fs::read_to_string(Path::new(path)).unwrap_or_default();
        Self { passwd: text("/etc/passwd"), group: text("/etc/group") }
    }

    /// Decides about a peer; `None`: refused.
    pub(crate) fn admit(&self, uid: u32, gid: u32, own: u32, control: &SocketSettings) -> Option<Peer> {
        let name = self.user_name(uid);
        let shown = name.map_or_else(|| format!("uid {uid}"), ToOwned::to_owned);
        if uid == own || uid == 0 {
            return Some(Peer { name: shown, role: Role::Admin });
        }
        let group = control.group.as_deref()?;
        if !self.is_member(name, gid, group) {
            return None;
        }
        let role = match control.role.as_str() {
            "admin" => Role::Admin,
            "operator" => Role::Operator,
            _ => Role::Viewer,
        };
        Some(Peer { name: shown, role })
    }

    /// The number of a group.
    pub(crate) fn group_id(&self, group: &str) -> Option<u32> {
        self.group_line(group)?.split(':').nth(2)?.parse().ok()
    }

    fn user_name(&self, uid: u32) -> Option<&str> {
        let uid = uid.to_string();
        let line = self.passwd.lines().find(|line| line.split(':').nth(2) == Some(&uid))?;
        line.split(':').next()
    }

    fn group_line(&self, group: &str) -> Option<&str> {
        self.group.lines().find(|line| line.split(':').next() == Some(group))
    }

    fn is_member(&self, user: Option<&str>, gid: u32, group: &str) -> bool {
        let listed = |line: &str| {
            let members = line.split(':').nth(3).unwrap_or_default();
            user.is_some_and(|user| members.split(',').any(|member| member == user))
        };
        self.group_id(group) == Some(gid) || self.group_line(group).is_some_and(listed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users() -> Users {
        Users {
            passwd: "root:x:0:0::/root:/bin/sh\nann:x:1000:1000::/:/bin/sh\nbob:x:1001:50::/:/bin/sh\n"
                .to_owned(),
            group: "root:x:0:\nops:x:50:ann\n".to_owned(),
        }
    }

    fn control(group: Option<&str>) -> SocketSettings {
        SocketSettings { mode: 0o660, group: group.map(ToOwned::to_owned), role: "operator".to_owned() }
    }

    #[test]
    fn only_the_same_user_root_and_the_group_are_admitted() {
        let users = users();
        let role =
            |uid, gid, control: &SocketSettings| users.admit(uid, gid, 500, control).map(|peer| peer.role);
        assert_eq!(role(500, 500, &control(None)), Some(Role::Admin));
        assert_eq!(role(0, 0, &control(None)), Some(Role::Admin));
        assert_eq!(role(65534, 65534, &control(None)), None);
        assert_eq!(role(65534, 65534, &control(Some("ops"))), None);
        assert_eq!(role(1000, 1000, &control(Some("ops"))), Some(Role::Operator), "listed member");
        assert_eq!(role(1001, 50, &control(Some("ops"))), Some(Role::Operator), "primary group");
        assert_eq!(role(1000, 1000, &control(Some("gone"))), None);
    }

    #[test]
    fn an_operator_cannot_do_what_needs_an_admin() {
        let peer = users().admit(1000, 1000, 500, &control(Some("ops"))).unwrap();
        assert!(peer.require(Role::Operator).is_ok());
        assert!(peer.require(Role::Admin).is_err());
        assert_eq!(peer.name, "ann");
    }
}
