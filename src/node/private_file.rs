//! Private files: the node's own, in its own folder. Nobody else can read them, whatever the umask, and no link, pipe or device in the folder
//! leads the node to anything else.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

const FILE_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Of a folder's mode, what lets others in.
const OTHERS: u32 = 0o077;

/// Not through a link; and a pipe that nobody writes to keeps nobody waiting.
fn no_follow() -> i32 {
    (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed()
}

/// Opens a file to read it.
pub(super) fn read(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true), path)
}

/// Opens a file to read and to append to it; makes it where there is none.
pub(super) fn append(path: &Path) -> io::Result<File> {
    private(open(OpenOptions::new().read(true).append(true).create(true).mode(FILE_MODE), path)?)
}

/// Opens a file to lock it; makes it where there is none.
pub(super) fn lock(path: &Path) -> io::Result<File> {
    private(open(OpenOptions::new().write(true).create(true).truncate(false).mode(FILE_MODE), path)?)
}

/// Makes a file anew, in the place of whatever has that name.
pub(super) fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    private(OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)?)
}

/// Takes from others what a former version, or somebody else, let them do with a file; one that is not there is fine.
pub(super) fn tighten(path: &Path) -> io::Result<()> {
    match read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        file => private(file?).map(drop),
    }
}

/// Makes a folder, and those that it stands in, for this user alone. One that is there is tightened where it holds nothing but what
/// `is_own` knows: a folder that is others' too is not the node's to close.
pub(super) fn folder(path: &Path, is_own: impl Fn(&str) -> bool) -> io::Result<()> {
    let was_there = path.is_dir();
    DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path)?;
    if fs::metadata(path)?.permissions().mode() & 0o777 == FOLDER_MODE {
        return Ok(());
    }
    let mut names = fs::read_dir(path)?;
    let is_own = !was_there || names.all(|entry| entry.is_ok_and(|entry| entry.file_name().to_str().is_some_and(&is_own)));
    let tightened = if is_own { fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)) } else { Ok(()) };
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        let (shown, why) = (path.display(), tightened.err().map(|error| error.to_string()));
        tracing::warn!(path = %shown, mode = format!("{mode:o}"), why, "others can enter the node's folder: it should be this user's alone (0700)");
    }
    Ok(())
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let file = options.custom_flags(no_follow()).open(path).map_err(|error| match error.raw_os_error() {
        Some(code) if code == Errno::LOOP.raw_os_error() => irregular("it is a link: links in the node's folder are not followed"),
        _ => error,
    })?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(irregular("it is no regular file")) }
}

fn irregular(why: &'static str) -> io::Error {
    io::Error::new(ErrorKind::InvalidInput, why)
}

fn private(file: File) -> io::Result<File> {
    if file.metadata()?.permissions().mode() & 0o777 != FILE_MODE {
        file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn files_and_folders_are_this_users_alone() {
        let top = tempfile::tempdir().unwrap();
        let inner = top.path().join("a/b");
        folder(&inner, |_| false).unwrap();
        assert_eq!((mode(&inner), mode(&top.path().join("a"))), (0o700, 0o700));
        let path = inner.join("file");
        for make in [append, lock, create] {
            make(&path).unwrap();
            assert_eq!(mode(&path), 0o600);
            // As a former version left it, or a umask of 0.
            fs::set_permissions(&path, Permissions::from_mode(0o666)).unwrap();
        }
        tighten(&path).unwrap();
        assert_eq!(mode(&path), 0o600);
        tighten(&inner.join("nothing")).unwrap();
    }

    #[test]
    fn a_folder_with_nothing_else_in_it_is_closed_and_one_of_others_is_not() {
        let top = tempfile::tempdir().unwrap();
        for (name, expected) in [("own", 0o700), ("other", 0o755)] {
            let path = top.path().join(name);
            fs::create_dir(&path).unwrap();
            fs::write(path.join(name), "").unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
            folder(&path, |name| name == "own").unwrap();
            assert_eq!(mode(&path), expected, "{name}");
        }
    }

    #[test]
    fn a_link_is_not_followed_and_one_in_the_place_of_a_new_file_goes() {
        let top = tempfile::tempdir().unwrap();
        let (target, link) = (top.path().join("target"), top.path().join("link"));
        fs::write(&target, "theirs").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o644)).unwrap();
        symlink(&target, &link).unwrap();
        for open in [read, append, lock] {
            assert!(open(&link).unwrap_err().to_string().contains("link"));
        }
        assert!(tighten(&link).is_err());
        create(&link).unwrap().write_all(b"ours").unwrap();
        let mut theirs = String::new();
        File::open(&target).unwrap().read_to_string(&mut theirs).unwrap();
        assert_eq!((theirs.as_str(), mode(&target)), ("theirs", 0o644));
        assert!(!fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let top = tempfile::tempdir().unwrap();
        let pipe = top.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(read(&pipe).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(lock(&pipe).is_err());
    }
}
