//! The entries of a layer, read as its bytes come: nothing is held but the header that is being read.
//!
//! Fields are read as Go's `archive/tar` of 2015 read them, since checksums were made of what it found: numbers may be
//! blank, octal or binary; a name may come from the header, from a GNU long name or from a PAX header; a device has
//! numbers only where it is one.

use std::io::{self, Write};

use flate2::write::MultiGzDecoder;
use tar::{Header, PaxExtensions};

const BLOCK: usize = 512;
/// What long names and PAX headers of one entry may have together. A path has at most 4 KiB; extended attributes may
/// have 64 KiB each.
pub(super) const MAX_EXTENSION: u64 = 1 << 20;
/// What they have in layers that nobody has made for the purpose: so much is held without being counted.
const USUAL_EXTENSION: u64 = 16 << 10;
/// The fields of a PAX header that are read, in the order of [`overrule`].
const FIELDS: [&[u8]; 8] = [b"path", b"linkpath", b"uname", b"gname", b"uid", b"gid", b"mtime", b"size"];
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// One entry's header.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Entry {
    pub name: Vec<u8>,
    pub mode: i64,
    pub uid: i64,
    pub gid: i64,
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    pub kind: u8,
    pub link: Vec<u8>,
    pub user: Vec<u8>,
    pub group: Vec<u8>,
    pub major: i64,
    pub minor: i64,
}

/// What looks at the entries of a layer. An error of it ends the reading.
pub(super) trait Visit {
    /// An entry begins.
    fn begin(&mut self, entry: Entry) -> Result<(), String>;
    /// Bytes of it.
    fn data(&mut self, bytes: &[u8]);
    /// It is whole.
    fn end(&mut self) -> Result<(), String>;
    /// Sees that `bytes` of what extends the next entry's header can be held until that begins. Only called where they
    /// are many.
    fn hold(&mut self, _bytes: u64) -> Result<(), String> {
        Ok(())
    }
}

/// Reads a layer, a tar that may be compressed with gzip.
pub(super) struct LayerReader<V: Visit>(Packing<V>);

enum Packing<V: Visit> {
    /// Too few bytes to tell.
    Unknown(Vec<u8>, TarReader<V>),
    Plain(TarReader<V>),
    Gzip(Box<MultiGzDecoder<TarReader<V>>>),
}

impl<V: Visit> LayerReader<V> {
    pub(super) fn new(visitor: V) -> Self {
        Self(Packing::Unknown(Vec::new(), TarReader::new(visitor)))
    }

    /// Takes the next bytes of the layer.
    pub(super) fn add(self, bytes: &[u8]) -> Self {
        Self(match self.0 {
            Packing::Unknown(mut first, tar) => {
                first.extend_from_slice(bytes);
                if first.len() < GZIP.len() {
                    Packing::Unknown(first, tar)
                } else if first.starts_with(&GZIP) {
                    unpack(Box::new(MultiGzDecoder::new(tar)), &first)
                } else {
                    plain(tar, &first)
                }
            }
            Packing::Plain(tar) => plain(tar, bytes),
            Packing::Gzip(gzip) => unpack(gzip, bytes),
        })
    }

    /// What looks at the entries, until [`finish`](Self::finish).
    pub(super) fn visitor(&mut self) -> Option<&mut V> {
        self.tar().visitor.as_mut()
    }

    /// Why the reading ended before the layer, if it did.
    pub(super) fn failure(&mut self) -> Option<&str> {
        match &self.tar().state {
            State::Failed(reason) => Some(reason),
            _ => None,
        }
    }

    /// The visitor after the last byte.
    ///
    /// # Errors
    /// Why this is no tar that could be read to its end.
    pub(super) fn finish(self) -> Result<V, String> {
        match self.0 {
            Packing::Unknown(first, mut tar) => {
                tar.feed(&first);
                tar.conclude()
            }
            Packing::Plain(mut tar) => tar.conclude(),
            Packing::Gzip(mut gzip) => {
                let outcome = gzip.try_finish();
                gzip.get_mut().note(outcome);
                gzip.get_mut().conclude()
            }
        }
    }

    /// Bytes that are held of headers which are not whole or wait for their entry.
    #[cfg(any(test, feature = "fuzzing"))]
    pub(super) fn held(&mut self) -> usize {
        let tar = self.tar();
        let of_header = match &tar.state {
            State::Extension { bytes, .. } => bytes.capacity(),
            _ => tar.block.len(),
        };
        let names = [&tar.long_name, &tar.long_link].into_iter().chain(&tar.pax).flatten();
        of_header + names.map(Vec::capacity).sum::<usize>()
    }

    fn tar(&mut self) -> &mut TarReader<V> {
        match &mut self.0 {
            Packing::Unknown(_, tar) | Packing::Plain(tar) => tar,
            Packing::Gzip(gzip) => gzip.get_mut(),
        }
    }
}

fn plain<V: Visit>(mut tar: TarReader<V>, bytes: &[u8]) -> Packing<V> {
    tar.feed(bytes);
    Packing::Plain(tar)
}

fn unpack<V: Visit>(mut gzip: Box<MultiGzDecoder<TarReader<V>>>, bytes: &[u8]) -> Packing<V> {
    // What follows the end of the tar is not looked at, and may be no gzip.
    if !gzip.get_ref().is_over() {
        let outcome = gzip.write_all(bytes);
        gzip.get_mut().note(outcome);
    }
    Packing::Gzip(gzip)
}

/// Where in the tar the next byte is.
enum State {
    Header,
    /// In the bytes of an entry.
    Data {
        left: u64,
        padding: usize,
    },
    /// In what another header is extended by.
    Extension {
        kind: u8,
        left: u64,
        padding: usize,
        bytes: Vec<u8>,
    },
    Padding(usize),
    Ended,
    Failed(String),
}

struct TarReader<V: Visit> {
    /// There until the end.
    visitor: Option<V>,
    state: State,
    block: Vec<u8>,
    /// What headers before the next one say of it.
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// The last of each of [`FIELDS`].
    pax: [Option<Vec<u8>>; FIELDS.len()],
    /// Bytes that these headers had.
    extended: u64,
}

impl<V: Visit> TarReader<V> {
    fn new(visitor: V) -> Self {
        Self {
            visitor: Some(visitor),
            state: State::Header,
            block: Vec::with_capacity(BLOCK),
            long_name: None,
            long_link: None,
            pax: Default::default(),
            extended: 0,
        }
    }

    fn is_over(&self) -> bool {
        matches!(self.state, State::Ended | State::Failed(_))
    }

    fn fail(&mut self, reason: impl Into<String>) {
        if !self.is_over() {
            self.state = State::Failed(reason.into());
        }
    }

    /// Takes note of how the unpacking went.
    fn note(&mut self, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.fail(format!("its compression is damaged: {error}"));
        }
    }

    fn conclude(&mut self) -> Result<V, String> {
        match &self.state {
            State::Failed(reason) => return Err(reason.clone()),
            State::Header if self.block.is_empty() => {}
            // The padding after the last entry may be missing.
            State::Ended | State::Padding(_) => {}
            _ => return Err("it ends in the middle of an entry".to_owned()),
        }
        self.visitor.take().ok_or_else(|| "it has ended before".to_owned())
    }

    fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            bytes = match self.step(bytes) {
                Ok(rest) => rest,
                Err(reason) => {
                    self.fail(reason);
                    return;
                }
            };
        }
    }

    /// Takes some of the bytes and answers the rest.
    fn step<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], String> {
        let Some(visitor) = &mut self.visitor else { return Ok(&[]) };
        match &mut self.state {
            State::Ended | State::Failed(_) => Ok(&[]),
            State::Header => {
                let (now, rest) = bytes.split_at(bytes.len().min(BLOCK - self.block.len()));
                self.block.extend_from_slice(now);
                if self.block.len() == BLOCK {
                    let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
                    self.header(&block)?;
                }
                Ok(rest)
            }
            State::Data { left, padding } => {
                let (now, rest) = split(bytes, *left);
                visitor.data(now);
                *left -= now.len() as u64;
                if *left == 0 {
                    self.state = after(*padding);
                    visitor.end()?;
                }
                Ok(rest)
            }
            State::Extension { kind, left, padding, bytes: read } => {
                let (now, rest) = split(bytes, *left);
                read.extend_from_slice(now);
                *left -= now.len() as u64;
                if *left == 0 {
                    let (kind, read, padding) = (*kind, std::mem::take(read), *padding);
                    self.state = after(padding);
                    self.extend(kind, read)?;
                }
                Ok(rest)
            }
            State::Padding(left) => {
                let (now, rest) = bytes.split_at(bytes.len().min(*left));
                *left -= now.len();
                if *left == 0 {
                    self.state = State::Header;
                }
                Ok(rest)
            }
        }
    }

    /// Reads a block that is a header.
    fn header(&mut self, block: &[u8]) -> Result<(), String> {
        if block.iter().all(|&byte| byte == 0) {
            self.state = State::Ended;
            return Ok(());
        }
        let header = Header::from_byte_slice(block);
        check_sum(block)?;
        let size = number(&block[124..136])?;
        let mut size = u64::try_from(size).map_err(|_| "a header has a negative size".to_owned())?;
        let kind = block[156];
        if matches!(kind, b'x' | b'L' | b'K') {
            self.extended = self.extended.saturating_add(size);
            if self.extended > MAX_EXTENSION {
                return Err(format!(
                    "the long names and extended headers of an entry have {} bytes",
                    self.extended
                ));
            }
            if self.extended > USUAL_EXTENSION
                && let Some(visitor) = &mut self.visitor
            {
                visitor.hold(self.extended)?;
            }
            let bytes = Vec::with_capacity(size as usize);
            self.state = State::Extension { kind, left: size, padding: padding(size), bytes };
            return if size == 0 { self.empty_extension(kind) } else { Ok(()) };
        }
        if kind == b'S' {
            return Err("it has sparse files".to_owned());
        }
        let mut entry = plain_entry(header, block)?;
        if let Some(name) = self.long_name.take() {
            entry.name = name;
        }
        if let Some(link) = self.long_link.take() {
            entry.link = link;
        }
        self.extended = 0;
        for (field, value) in FIELDS.iter().zip(std::mem::take(&mut self.pax)) {
            if let Some(value) = value {
                overrule(&mut entry, &mut size, field, value)?;
            }
        }
        entry.size = size;
        self.state = match size {
            0 => State::Header,
            left => State::Data { left, padding: padding(left) },
        };
        let visitor = self.visitor.as_mut().ok_or_else(|| "it has ended before".to_owned())?;
        visitor.begin(entry)?;
        if size == 0 { visitor.end() } else { Ok(()) }
    }

    fn empty_extension(&mut self, kind: u8) -> Result<(), String> {
        self.state = State::Header;
        self.extend(kind, Vec::new())
    }

    /// Keeps what a header that extends the next one says.
    fn extend(&mut self, kind: u8, bytes: Vec<u8>) -> Result<(), String> {
        match kind {
            b'L' => self.long_name = Some(text(&bytes)),
            b'K' => self.long_link = Some(text(&bytes)),
            _ => {
                for pair in PaxExtensions::new(&bytes) {
                    let pair = pair.map_err(|error| format!("an extended header can't be read: {error}"))?;
                    if pair.key_bytes().starts_with(b"GNU.sparse.") {
                        return Err("it has sparse files".to_owned());
                    }
                    if let Some(at) = FIELDS.iter().position(|field| *field == pair.key_bytes()) {
                        self.pax[at] = Some(pair.value_bytes().to_vec());
                    }
                }
            }
        }
        Ok(())
    }
}

impl<V: Visit> Write for TarReader<V> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.feed(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn split(bytes: &[u8], most: u64) -> (&[u8], &[u8]) {
    bytes.split_at(usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len()))
}

fn padding(size: u64) -> usize {
    (BLOCK - (size % BLOCK as u64) as usize) % BLOCK
}

fn after(padding: usize) -> State {
    if padding == 0 { State::Header } else { State::Padding(padding) }
}

/// What stands before the first NUL.
fn text(bytes: &[u8]) -> Vec<u8> {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default().to_vec()
}

/// What the header says by itself.
fn plain_entry(header: &Header, block: &[u8]) -> Result<Entry, String> {
    let kind = block[156];
    let is_new = header.as_ustar().is_some() || header.as_gnu().is_some();
    let is_device = is_new && matches!(kind, b'3' | b'4');
    let of_device = |field: &[u8]| if is_device { number(field) } else { Ok(0) };
    Ok(Entry {
        name: header.path_bytes().into_owned(),
        mode: number(&block[100..108])?,
        uid: number(&block[108..116])?,
        gid: number(&block[116..124])?,
        size: 0,
        mtime: number(&block[136..148])?,
        kind,
        link: text(&block[157..257]),
        user: header.username_bytes().unwrap_or_default().to_vec(),
        group: header.groupname_bytes().unwrap_or_default().to_vec(),
        major: of_device(&block[329..337])?,
        minor: of_device(&block[337..345])?,
    })
}

/// Takes one field of a PAX header in place of what the header says.
fn overrule(entry: &mut Entry, size: &mut u64, key: &[u8], value: Vec<u8>) -> Result<(), String> {
    let decimal = |value: &[u8]| {
        std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<i64>().ok())
            .ok_or_else(|| format!("{} of an extended header is no number", key.escape_ascii()))
    };
    match key {
        b"path" => entry.name = value,
        b"linkpath" => entry.link = value,
        b"uname" => entry.user = value,
        b"gname" => entry.group = value,
        b"uid" => entry.uid = decimal(&value)?,
        b"gid" => entry.gid = decimal(&value)?,
        b"mtime" => entry.mtime = decimal(value.split(|&byte| byte == b'.').next().unwrap_or_default())?,
        b"size" => {
            *size = u64::try_from(decimal(&value)?).map_err(|_| "an entry has a negative size".to_owned())?;
        }
        _ => {}
    }
    Ok(())
}

/// A number in a header: blank, octal, or binary with the highest bit set.
fn number(field: &[u8]) -> Result<i64, String> {
    if let Some(&first) = field.first()
        && first & 0x80 != 0
    {
        let rest = field[1..].iter();
        return Ok(rest.fold(i64::from(first & 0x7f), |all, &byte| (all << 8) | i64::from(byte)));
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let digits: Vec<u8> = field.iter().copied().skip_while(is_blank).collect();
    let end = digits.iter().rposition(|byte| !is_blank(byte)).map_or(0, |last| last + 1);
    digits[..end].iter().try_fold(0i64, |all, &byte| match byte {
        b'0'..=b'7' => Ok((all << 3) | i64::from(byte - b'0')),
        _ => Err("a number of a header is not octal".to_owned()),
    })
}

/// Compares a header with its checksum, of which old programs made one of signed bytes.
fn check_sum(block: &[u8]) -> Result<(), String> {
    let said = number(&block[148..156]).ok();
    let bytes =
        || block.iter().enumerate().map(|(at, &byte)| if (148..156).contains(&at) { b' ' } else { byte });
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte.cast_signed())).sum();
    if said == Some(unsigned) || said == Some(signed) {
        Ok(())
    } else {
        Err("it is no tar, or a header is damaged".to_owned())
    }
}
