//! Users and groups by name or number, as the machine's own directory of them knows them.
//!
//! Through the C library, because they need not stand in `/etc/passwd`. May take as long as that directory does
//! (LDAP), so it is asked on a spawning thread, never in a child.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;

/// An entry longer than this is no entry.
const MAX_ENTRY: usize = 1 << 20;
/// More groups than a user can have.
const MAX_GROUPS: usize = 1 << 16;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    /// Its name.
    pub(crate) name: OsString,
    /// Number.
    pub(crate) uid: u32,
    /// Its own group.
    pub(crate) gid: u32,
    /// Every group, its own included.
    pub(crate) groups: Vec<u32>,
    /// Its directory.
    pub(crate) home: OsString,
}

/// A user by name, else by number. `None`: there is none.
pub(crate) fn account(text: &str) -> io::Result<Option<Account>> {
    let name = CString::new(text)?;
    let by_name = entry(
        |entry: &mut libc::passwd, buffer, found| {
            // SAFETY: a NUL-terminated name, and a buffer of the given length that outlives the entry's use.
            unsafe { libc::getpwnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found) }
        },
        account_of,
    )?;
    let (None, Some(number)) = (&by_name, id_number(text)) else { return by_name.transpose() };
    let by_number = entry(
        |entry: &mut libc::passwd, buffer, found| {
            // SAFETY: as above.
            unsafe { libc::getpwuid_r(number, entry, buffer.as_mut_ptr(), buffer.len(), found) }
        },
        account_of,
    )?;
    by_number.transpose()
}

/// The number of a group by name; a number stands for itself. `None`: there is none.
pub(crate) fn group_number(text: &str) -> io::Result<Option<u32>> {
    let name = CString::new(text)?;
    let by_name = entry(
        |entry: &mut libc::group, buffer, found| {
            // SAFETY: as above.
            unsafe { libc::getgrnam_r(name.as_ptr(), entry, buffer.as_mut_ptr(), buffer.len(), found) }
        },
        |entry| entry.gr_gid,
    )?;
    Ok(by_name.or_else(|| id_number(text)))
}

/// A user's or group's number. The highest one is none: to the kernel it means «leave it as it is».
pub(crate) fn id_number(text: &str) -> Option<u32> {
    text.parse().ok().filter(|number| *number != u32::MAX)
}

/// Asks with a buffer that grows until the answer fits.
fn entry<E, T>(
    ask: impl Fn(&mut E, &mut [libc::c_char], &mut *mut E) -> i32,
    read: impl Fn(&E) -> T,
) -> io::Result<Option<T>> {
    let mut buffer = vec![0; 1024];
    loop {
        // SAFETY: all zero is valid for these structures of numbers and pointers, and only read once they are filled.
        let mut entry: E = unsafe { std::mem::zeroed() };
        let mut found = std::ptr::null_mut();
        match ask(&mut entry, &mut buffer, &mut found) {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(read(&entry))),
            libc::ERANGE if buffer.len() < MAX_ENTRY => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            // How some directories say that there is none.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            errno => return Err(io::Error::from_raw_os_error(errno)),
        }
    }
}

fn account_of(entry: &libc::passwd) -> io::Result<Account> {
    // SAFETY: a filled entry's texts are NUL-terminated and lie in the caller's buffer.
    let text = |at: *const libc::c_char| unsafe { CStr::from_ptr(at) };
    let name = text(entry.pw_name);
    Ok(Account {
        name: OsStr::from_bytes(name.to_bytes()).to_owned(),
        uid: entry.pw_uid,
        gid: entry.pw_gid,
        groups: groups_of(name, entry.pw_gid)?,
        home: OsStr::from_bytes(text(entry.pw_dir).to_bytes()).to_owned(),
    })
}

fn groups_of(name: &CStr, gid: u32) -> io::Result<Vec<u32>> {
    let mut groups = vec![0; 64];
    while groups.len() <= MAX_GROUPS {
        let mut count = i32::try_from(groups.len()).unwrap_or(i32::MAX);
        // SAFETY: a NUL-terminated name, and room for `count` numbers.
        let done = unsafe { libc::getgrouplist(name.as_ptr(), gid, groups.as_mut_ptr(), &raw mut count) };
        if done >= 0 {
            groups.truncate(usize::try_from(count).unwrap_or(0));
            return Ok(groups);
        }
        groups.resize(groups.len() * 4, 0);
    }
    Err(io::Error::other("it is in too many groups"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let by_name = account("root").unwrap().unwrap();
        assert_eq!((by_name.uid, by_name.gid), (0, 0));
        assert!(by_name.groups.contains(&0));
        assert_eq!(account("0").unwrap(), Some(by_name));
        assert_eq!(group_number("root").unwrap(), Some(0));
        assert_eq!(group_number("4711").unwrap(), Some(4711));
    }

    #[test]
    fn who_does_not_exist_is_nobody() {
        assert_eq!(account("no-such-user").unwrap(), None);
        assert_eq!(account("4294967294").unwrap(), None);
        assert_eq!(group_number("no-such-group").unwrap(), None);
    }
}
