//! `civm logs INSTANCE`.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::Context;
use super::instance::{place, site};
use crate::cli::instance::{Log, Logs};
use crate::instance::Place;
use crate::outcome::{Code, Failure, Outcome};
use crate::vm::agent::printable;

/// How often a log that is followed is looked at.
const POLL: Duration = Duration::from_millis(200);
/// Bytes that are read at once.
const CHUNK: u64 = 1 << 20;

/// Prints a log, and what is added to it.
pub(super) fn run(args: &Logs, context: &Context) -> Outcome {
    let site = site(context)?;
    let place = place(&site, &args.instance)?;
    let path = path(&place, args)?;
    let mut reader = Reader::open(&path).map_err(|error| missing(&path, args, &error))?;
    loop {
        // Whether it lived is asked first: what it wrote last is read after that.
        let lives = args.follow && place.is_alive();
        while let Some(text) = reader.read().map_err(|error| missing(&path, args, &error))? {
            // A guest has its part in all of them; what steers a terminal does not get there.
            context.screen.data(printable(&String::from_utf8_lossy(&text)).as_bytes())?;
        }
        if !lives {
            return Ok(0);
        }
        reader.renew(&path);
        thread::sleep(POLL);
    }
}

fn path(place: &Place, args: &Logs) -> Result<PathBuf, Failure> {
    let base = match args.log {
        Log::Console => place.console_log(),
        Log::Qemu => place.qemu_log(),
        Log::Events => place.events(),
    };
    if args.boot == 0 {
        return Ok(base);
    }
    if args.follow {
        return Err(Failure::new(
            Code::ConflictingParameters,
            "--follow: only the last boot can be followed",
        ));
    }
    let mut older = base.into_os_string();
    older.push(format!(".{}", args.boot));
    Ok(older.into())
}

fn missing(path: &Path, args: &Logs, error: &std::io::Error) -> Failure {
    if error.kind() == ErrorKind::NotFound {
        let which = if args.boot == 0 {
            "no such log yet".to_owned()
        } else {
            format!("no log of boot {}", args.boot)
        };
        return Failure::new(Code::NoFileSpecified, format!("`{}` has {which}", args.instance));
    }
    Failure::new(Code::CouldNotReadInput, format!("cannot read {}: {error}", path.display()))
}

/// A file that grows, and may be put aside for a new one.
struct Reader {
    file: File,
    inode: u64,
}

impl Reader {
    fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { file, inode })
    }

    fn read(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        // One that was emptied is read from its beginning.
        if self.file.metadata()?.len() < self.file.stream_position()? {
            self.file.seek(SeekFrom::Start(0))?;
        }
        let mut text = Vec::new();
        (&self.file).take(CHUNK).read_to_end(&mut text)?;
        Ok((!text.is_empty()).then_some(text))
    }

    /// Goes on with the file that has the name now.
    fn renew(&mut self, path: &Path) {
        if let Ok(next) = Self::open(path)
            && next.inode != self.inode
        {
            *self = next;
        }
    }
}
