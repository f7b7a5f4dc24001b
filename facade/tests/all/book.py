# A server that writes the body of each POST into a book before it answers; each answer is one piece.
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

book = os.open(sys.argv[1], os.O_APPEND | os.O_CREAT | os.O_WRONLY)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        line = self.rfile.read(int(self.headers["content-length"]))
        os.write(book, line + b"\n")
        self.do_GET()

    def do_GET(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")

    def log_message(self, *arguments):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


server = Server(("127.0.0.1", 0), Handler)
print(server.server_address[1], flush=True)
server.serve_forever()
