//! The folder with the drive, its orders, what it has told, and its cuts.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fuser::{
    BsdFileFlags, Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, LockOwner,
    OpenFlags, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, WriteFlags,
};

use crate::image::Image;
use crate::orders::{Fate, Kind, Order, Orders};
use crate::record::{Event, Record};

/// Nothing here is what it was a moment ago.
const AT_ONCE: Duration = Duration::ZERO;

const DRIVE: u64 = 2;
const ORDERS: u64 = 3;
const TOLD: u64 = 4;
/// The first number of a cut.
const CUTS: u64 = 10;

/// `FALLOC_FL_PUNCH_HOLE` and `FALLOC_FL_ZERO_RANGE`: both leave zeros.
const ZEROS: i32 = 0x02 | 0x10;

/// How much is made zero at once.
const PIECE: u64 = 1024 * 1024;

/// The file system.
#[derive(Debug)]
pub(crate) struct Folder(Mutex<Drive>);

/// The drive, and what has become of it.
#[derive(Debug)]
struct Drive {
    image: Image,
    marked: Image,
    record: Option<Record>,
    orders: Orders,
    /// What waits, while something does.
    held: Option<Vec<Asked>>,
    cuts: BTreeMap<u64, (String, Image)>,
    next: u64,
}

/// What the drive is asked for.
#[derive(Debug)]
enum Asked {
    Read(u64, usize, ReplyData),
    Write(u64, Vec<u8>, ReplyWrite),
    Zero(u64, u64, ReplyEmpty),
    Flush(ReplyEmpty),
}

impl Folder {
    /// Serves `image`.
    pub(crate) fn new(image: Image) -> Self {
        let (marked, record, orders, held) = (image.clone(), None, Orders::default(), None);
        Self(Mutex::new(Drive { image, marked, record, orders, held, cuts: BTreeMap::new(), next: CUTS }))
    }

    fn drive(&self) -> MutexGuard<'_, Drive> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drive {
    fn ask(&mut self, asked: Asked) {
        if let Some(held) = &mut self.held {
            held.push(asked);
            return;
        }
        let kind = match asked {
            Asked::Read(..) => Kind::Read,
            Asked::Write(..) | Asked::Zero(..) => Kind::Write,
            Asked::Flush(..) => Kind::Flush,
        };
        match self.orders.meet(kind) {
            Fate::Held => self.held = Some(vec![asked]),
            Fate::Fails(error) => asked.fail(error),
            Fate::Lost => asked.lose(),
            Fate::Done => self.answer(asked),
        }
    }

    fn answer(&mut self, asked: Asked) {
        match asked {
            Asked::Read(offset, length, reply) => match self.image.read(offset, length) {
                Ok(bytes) => reply.data(&bytes),
                Err(error) => reply.error(error.into()),
            },
            Asked::Write(offset, bytes, reply) => {
                let length = u32::try_from(bytes.len()).unwrap_or_default();
                match self.write(offset, bytes) {
                    Ok(()) => reply.written(length),
                    Err(error) => reply.error(error.into()),
                }
            }
            Asked::Zero(offset, length, reply) => match self.zero(offset, length) {
                Ok(()) => reply.ok(),
                Err(error) => reply.error(error.into()),
            },
            Asked::Flush(reply) => {
                if let Some(record) = &mut self.record {
                    record.add(Event::Flush);
                }
                reply.ok();
            }
        }
    }

    fn write(&mut self, offset: u64, bytes: Vec<u8>) -> io::Result<()> {
        self.image.write(offset, &bytes)?;
        if let Some(record) = &mut self.record {
            record.add(Event::Write(offset, bytes));
        }
        Ok(())
    }

    fn zero(&mut self, offset: u64, length: u64) -> io::Result<()> {
        let (mut at, mut left) = (offset, length.min(self.image.size().saturating_sub(offset)));
        while left > 0 {
            let piece = left.min(PIECE);
            self.write(at, vec![0; usize::try_from(piece).unwrap_or_default()])?;
            at += piece;
            left -= piece;
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Count => self.orders.count(),
            Order::Record => {
                self.orders.count();
                self.record = Some(Record::new(self.image.clone()));
            }
            Order::Mark => self.marked = self.image.clone(),
            Order::Reset => {
                self.image = self.marked.clone();
                self.record = None;
            }
            Order::Fault(fault) => self.orders.add(fault),
            Order::Go => {
                self.orders.go();
                self.go_on();
            }
            Order::Step => {
                self.orders.step();
                self.go_on();
            }
            Order::Well => {
                self.orders.well();
                self.go_on();
            }
        }
    }

    /// What has waited comes once more.
    fn go_on(&mut self) {
        for asked in self.held.take().unwrap_or_default() {
            self.ask(asked);
        }
    }

    fn told(&self) -> String {
        format!("{} held {}\n", self.orders, if self.held.is_some() { "yes" } else { "no" })
    }

    /// The number of the file `name`; a cut is made when it is asked for first.
    fn find(&mut self, name: &str) -> io::Result<Option<u64>> {
        match name {
            "drive" => return Ok(Some(DRIVE)),
            "orders" => return Ok(Some(ORDERS)),
            "told" => return Ok(Some(TOLD)),
            _ => {}
        }
        if let Some((number, _)) = self.cuts.iter().find(|(_, (known, _))| known == name) {
            return Ok(Some(*number));
        }
        let image = match name.split('.').collect::<Vec<_>>().as_slice() {
            ["now", ..] => Some(self.image.clone()),
            ["cut", flush] => self.cut(flush, None)?,
            ["cut", flush, seed] => self.cut(flush, Some(seed))?,
            _ => None,
        };
        let Some(image) = image else { return Ok(None) };
        let number = self.next;
        self.next += 1;
        self.cuts.insert(number, (name.to_owned(), image));
        Ok(Some(number))
    }

    fn cut(&self, flush: &str, seed: Option<&str>) -> io::Result<Option<Image>> {
        let (Some(record), Ok(flush)) = (&self.record, flush.parse()) else { return Ok(None) };
        match seed.map(str::parse).transpose() {
            Ok(seed) => record.cut(flush, seed),
            Err(_) => Ok(None),
        }
    }

    fn attributes(&self, number: u64) -> Option<FileAttr> {
        let (kind, perm, size) = match number {
            1 => (FileType::Directory, 0o700, 0),
            DRIVE => (FileType::RegularFile, 0o600, self.image.size()),
            ORDERS | TOLD => (FileType::RegularFile, 0o600, 0),
            cut => (FileType::RegularFile, 0o600, self.cuts.get(&cut)?.1.size()),
        };
        Some(FileAttr {
            ino: INodeNo(number),
            size,
            blocks: size.div_ceil(512),
            atime: UNIX_EPOCH,
            mtime: UNIX_EPOCH,
            ctime: UNIX_EPOCH,
            crtime: UNIX_EPOCH,
            kind,
            perm,
            nlink: 1,
            uid: 0,
            gid: 0,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }
}

impl Asked {
    fn fail(self, error: Errno) {
        match self {
            Self::Read(_, _, reply) => reply.error(error),
            Self::Write(_, _, reply) => reply.error(error),
            Self::Zero(_, _, reply) | Self::Flush(reply) => reply.error(error),
        }
    }

    /// Says that it was done; what was read is nothing but zeros.
    fn lose(self) {
        match self {
            Self::Read(_, length, reply) => reply.data(&vec![0; length]),
            Self::Write(_, bytes, reply) => reply.written(u32::try_from(bytes.len()).unwrap_or_default()),
            Self::Zero(_, _, reply) | Self::Flush(reply) => reply.ok(),
        }
    }
}

impl Filesystem for Folder {
    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let mut drive = self.drive();
        let number = if parent == INodeNo::ROOT { drive.find(&name.to_string_lossy()) } else { Ok(None) };
        match number.map(|number| number.and_then(|number| drive.attributes(number))) {
            Ok(Some(attributes)) => reply.entry(&AT_ONCE, &attributes, Generation(0)),
            Ok(None) => reply.error(Errno::ENOENT),
            Err(error) => reply.error(error.into()),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.drive().attributes(number.0) {
            Some(attributes) => reply.attr(&AT_ONCE, &attributes),
            None => reply.error(Errno::ENOENT),
        }
    }

    /// A shell cuts the file of the orders off before it writes.
    fn setattr(
        &self,
        request: &Request,
        number: INodeNo,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u32>,
        _: Option<u64>,
        _: Option<TimeOrNow>,
        _: Option<TimeOrNow>,
        _: Option<SystemTime>,
        handle: Option<FileHandle>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<SystemTime>,
        _: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        self.getattr(request, number, handle, reply);
    }

    fn open(&self, _: &Request, _: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        // Past the page cache: each request of the loop device comes here.
        reply.opened(FileHandle(0), FopenFlags::FOPEN_DIRECT_IO);
    }

    fn read(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let mut drive = self.drive();
        let length = usize::try_from(size).unwrap_or_default();
        match number.0 {
            DRIVE => drive.ask(Asked::Read(offset, length, reply)),
            TOLD => {
                let told = drive.told();
                let begin = usize::try_from(offset).unwrap_or(usize::MAX);
                reply.data(told.as_bytes().get(begin..).unwrap_or_default());
            }
            cut => match drive.cuts.get(&cut).map(|(_, image)| image.read(offset, length)) {
                Some(Ok(bytes)) => reply.data(&bytes),
                Some(Err(error)) => reply.error(error.into()),
                None => reply.error(Errno::EINVAL),
            },
        }
    }

    fn write(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        bytes: &[u8],
        _: WriteFlags,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut drive = self.drive();
        let length = u32::try_from(bytes.len()).unwrap_or_default();
        match number.0 {
            DRIVE => drive.ask(Asked::Write(offset, bytes.to_owned(), reply)),
            ORDERS => {
                let text = String::from_utf8_lossy(bytes);
                match text.lines().map(Order::parse).collect::<Option<Vec<_>>>() {
                    Some(orders) => {
                        for order in orders {
                            drive.obey(order);
                        }
                        reply.written(length);
                    }
                    None => reply.error(Errno::EINVAL),
                }
            }
            cut => match drive.cuts.get_mut(&cut).map(|(_, image)| image.write(offset, bytes)) {
                Some(Ok(())) => reply.written(length),
                Some(Err(error)) => reply.error(error.into()),
                None => reply.error(Errno::EINVAL),
            },
        }
    }

    fn fallocate(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        if number.0 == DRIVE && mode & ZEROS != 0 {
            self.drive().ask(Asked::Zero(offset, length, reply));
        } else {
            reply.error(Errno::EOPNOTSUPP);
        }
    }

    fn fsync(&self, _: &Request, number: INodeNo, _: FileHandle, _: bool, reply: ReplyEmpty) {
        if number.0 == DRIVE {
            self.drive().ask(Asked::Flush(reply));
        } else {
            reply.ok();
        }
    }

    /// What comes with each close(2) has nothing to do with the drive's flushes.
    fn flush(&self, _: &Request, _: INodeNo, _: FileHandle, _: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn unlink(&self, _: &Request, _: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let name = name.to_string_lossy();
        self.drive().cuts.retain(|_, (known, _)| *known != name);
        reply.ok();
    }
}
