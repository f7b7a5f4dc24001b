//! `facade upgrade`: a new process takes the listening sockets over from the old one, which then drains.
//!
//! The sockets themselves pass (SCM_RIGHTS over a Unix socket), with all connections that wait in them: none is closed
//! and none bound anew, so no client is refused or reset.
//!
//! Invariant: the old process accepts until the new one has said that it accepts; if the new one dies before, nothing
//! has happened.

use std::fs;
use std::io::{self, ErrorKind, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use platform::http::{ServeError, bind};
use rustix::cmsg_space;
use rustix::net::sockopt::socket_peercred;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use rustix::process::{Signal, geteuid, getpid, kill_process};

use crate::client::Listeners;
use crate::settings::Settings;

/// How long a new process may take to start.
const START: Duration = Duration::from_secs(120);
/// What a new process says once it accepts.
const READY: u8 = b'!';
/// What is passed: a letter and a socket each.
const CLEARTEXT: u8 = b'c';
const TLS: u8 = b't';
const ADMIN: u8 = b'a';
const MOST: usize = 3;

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum HandoverError {
    /// There is no socket to ask at.
    #[error("setting `upgrade_socket` is empty; name the same file as the running facade does")]
    NoSocket,
    /// Nobody answers there.
    #[error(
        "no running facade answers at {path}; start one with `facade serve`, or set `upgrade_socket` to its file"
    )]
    NoPredecessor {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The sockets that a facade listens on.
#[derive(Debug, Default)]
pub struct Sockets {
    pub(crate) clients: Listeners,
    admin: Option<TcpListener>,
}

/// The process that the sockets came from. It goes on as before unless it is dismissed.
#[derive(Debug)]
pub struct Predecessor(UnixStream);

impl Predecessor {
    /// Has it drain and end, now that this process accepts.
    pub fn dismiss(mut self) {
        match self.0.write_all(&[READY]) {
            Ok(()) => tracing::info!("the old process drains"),
            Err(error) => tracing::warn!(%error, "the old process could not be told to drain: {error}"),
        }
    }
}

/// Asks the facade that runs for its sockets.
pub fn take(path: &Path) -> Result<(Sockets, Predecessor), HandoverError> {
    if path.as_os_str().is_empty() {
        return Err(HandoverError::NoSocket);
    }
    let found = UnixStream::connect(path).and_then(|stream| Ok((receive(&stream)?, Predecessor(stream))));
    found.map_err(|source| HandoverError::NoPredecessor { path: path.to_owned(), source })
}

impl Sockets {
    /// Binds what is missing, and what the settings place elsewhere than the old process did.
    pub fn complete(self, settings: &Settings) -> Result<Self, ServeError> {
        let Listeners { cleartext, tls } = self.clients;
        let clients = Listeners {
            cleartext: keep_or_bind(cleartext, &settings.listen, "listen")?,
            tls: keep_or_bind(tls, &settings.tls.listen, "tls.listen")?,
        };
        Ok(Self { clients, admin: keep_or_bind(self.admin, &settings.admin_listen, "admin_listen")? })
    }

    /// The socket of the admin API.
    pub fn admin(&self) -> io::Result<TcpListener> {
        self.admin.as_ref().ok_or_else(|| io::Error::other("the admin API has no socket"))?.try_clone()
    }

    fn named(&self) -> impl Iterator<Item = (u8, BorrowedFd<'_>)> {
        let all = [(CLEARTEXT, &self.clients.cleartext), (TLS, &self.clients.tls), (ADMIN, &self.admin)];
        all.into_iter().filter_map(|(name, socket)| Some((name, socket.as_ref()?.as_fd())))
    }

    /// Waits for a successor at `path`, in a thread that ends with the process; for none where `path` is empty.
    pub fn offer(self, path: &Path) -> io::Result<Offer> {
        let offer = Offer(Arc::new(Mutex::new(Some(self))));
        if path.as_os_str().is_empty() {
            offer.withdraw();
            return Ok(offer);
        }
        // Bound beside it and moved there, so that the place of a predecessor is taken in one step.
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let listener = UnixListener::bind(&new)?;
        fs::rename(&new, path)?;
        let sockets = Arc::clone(&offer.0);
        thread::Builder::new().name("handover".to_owned()).spawn(move || {
            for stream in listener.incoming().flatten() {
                match hand_over(&sockets, stream) {
                    Ok(()) => return,
                    Err(error) => tracing::warn!(%error, "an upgrade came to nothing: {error}"),
                }
            }
        })?;
        Ok(offer)
    }

    fn try_clone(&self) -> io::Result<Self> {
        let admin = self.admin.as_ref().map(TcpListener::try_clone).transpose()?;
        Ok(Self { clients: self.clients.try_clone()?, admin })
    }
}

/// What a successor may take. Dropping it closes the sockets that were kept for one.
#[derive(Debug)]
pub struct Offer(Arc<Mutex<Option<Sockets>>>);

impl Offer {
    fn withdraw(&self) {
        drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        self.withdraw();
    }
}

/// Passes the sockets on; once the successor accepts, this process ends as if it had been told to.
fn hand_over(sockets: &Mutex<Option<Sockets>>, mut stream: UnixStream) -> io::Result<()> {
    let peer = socket_peercred(&stream)?.uid;
    if peer != geteuid() && !peer.is_root() {
        return Err(io::Error::other("another user asked for the sockets"));
    }
    let kept = sockets.lock().unwrap_or_else(PoisonError::into_inner).as_ref().map(Sockets::try_clone);
    let kept = kept.ok_or_else(|| io::Error::other("this process ends already"))??;
    let (names, passed): (Vec<u8>, Vec<_>) = kept.named().unzip();
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    control.push(SendAncillaryMessage::ScmRights(&passed));
    sendmsg(&stream, &[IoSlice::new(&names)], &mut control, SendFlags::empty())?;
    stream.set_read_timeout(Some(START))?;
    stream.read_exact(&mut [0]).map_err(|error| match error.kind() {
        ErrorKind::UnexpectedEof => io::Error::other(
            "the new process ended before it accepted; what it said tells why, and this one goes on",
        ),
        ErrorKind::WouldBlock => io::Error::other(format!(
            "the new process did not accept within {} s; this one goes on",
            START.as_secs()
        )),
        _ => error,
    })?;
    tracing::info!("a new process accepts; this one drains");
    Ok(kill_process(getpid(), Signal::TERM)?)
}

fn receive(stream: &UnixStream) -> io::Result<Sockets> {
    let mut names = [0; MOST];
    let mut space = [MaybeUninit::uninit(); cmsg_space!(ScmRights(MOST))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut names)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut sockets = Sockets::default();
    let passed = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(sockets) => Some(sockets),
        _ => None,
    });
    for (name, socket) in names.iter().take(received.bytes).zip(passed.flatten()) {
        let place = match *name {
            CLEARTEXT => &mut sockets.clients.cleartext,
            TLS => &mut sockets.clients.tls,
            _ => &mut sockets.admin,
        };
        *place = Some(TcpListener::from(socket));
    }
    if sockets.named().next().is_none() {
        return Err(io::Error::other("it passed no sockets"));
    }
    Ok(sockets)
}

fn keep_or_bind(
    inherited: Option<TcpListener>,
    listen: &str,
    setting: &'static str,
) -> Result<Option<TcpListener>, ServeError> {
    if listen.is_empty() {
        return Ok(None);
    }
    match inherited {
        Some(listener) if is_at(&listener, listen) => Ok(Some(listener)),
        _ => bind(listen, setting).map(Some),
    }
}

/// Port 0 is any port.
fn is_at(listener: &TcpListener, listen: &str) -> bool {
    let same = |wanted: SocketAddr, is: SocketAddr| {
        wanted.ip() == is.ip() && (wanted.port() == 0 || wanted.port() == is.port())
    };
    let wanted = listen.to_socket_addrs().ok().and_then(|mut addresses| addresses.next());
    wanted.zip(listener.local_addr().ok()).is_some_and(|(wanted, is)| same(wanted, is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_successor_that_ends_before_it_accepts_is_told_of() {
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let sockets = Mutex::new(Some(Sockets { clients: Listeners::default(), admin: Some(admin) }));
        let (ours, theirs) = UnixStream::pair().unwrap();
        let successor = thread::spawn(move || receive(&theirs).map(drop));
        let error = hand_over(&sockets, ours).unwrap_err();
        assert!(error.to_string().contains("the new process ended before it accepted"), "{error}");
        successor.join().unwrap().unwrap();
    }
}
