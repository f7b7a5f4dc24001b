//! nginx in front of an upstream, where it is installed.
//!
//! Invariant: it ends with the test, and leaves nothing behind.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::support::eventually;

/// A running nginx.
pub(crate) struct Nginx {
    pub(crate) address: SocketAddr,
    /// As `nginx -v` says it: `nginx/1.22.1`.
    pub(crate) version: String,
    child: Child,
    _folder: TempDir,
}

impl Nginx {
    /// None where it is not installed.
    pub(crate) fn start(upstream: SocketAddr) -> Option<Self> {
        Self::listening(upstream, "")
    }

    /// Speaks HTTP/2 in cleartext to clients that know it beforehand.
    pub(crate) fn start_http2(upstream: SocketAddr) -> Option<Self> {
        Self::listening(upstream, " http2")
    }

    fn listening(upstream: SocketAddr, protocol: &str) -> Option<Self> {
        let (program, version) = ["nginx", "/usr/sbin/nginx"].into_iter().find_map(|program| {
            let said = Command::new(program).arg("-v").output().ok()?;
            let said = String::from_utf8_lossy(&said.stderr).into_owned();
            Some((program, said.split_whitespace().find(|word| word.starts_with("nginx/"))?.to_owned()))
        })?;
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let path = folder.path().display();
        let configuration = format!(
            "daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
             events {{ worker_connections 256; }}\n\
             http {{\n\
               access_log off; client_body_temp_path {path}/body; proxy_temp_path {path}/proxy;\n\
               fastcgi_temp_path {path}/fastcgi; uwsgi_temp_path {path}/uwsgi; scgi_temp_path {path}/scgi;\n\
               client_header_timeout 2s; client_body_timeout 1s; lingering_timeout 100ms; lingering_time 200ms;\n\
               upstream counting {{ server {upstream}; keepalive 8; }}\n\
               server {{\n\
                 listen {address}{protocol};\n\
                 location / {{\n\
                   proxy_pass http://counting; proxy_http_version 1.1; proxy_set_header Connection \"\";\n\
                 }}\n\
               }}\n\
             }}\n"
        );
        let file = folder.path().join("nginx.conf");
        fs::write(&file, configuration).unwrap();
        let mut command = Command::new(program);
        command.arg("-p").arg(folder.path()).arg("-c").arg(&file);
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        eventually("nginx listens", || TcpStream::connect(address).is_ok());
        Some(Self { address, version, child, _folder: folder })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
