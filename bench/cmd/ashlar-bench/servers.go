package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ashlar-os/ashlar/internal/registry"
)

// serveLayout serves a layout, signed, on loopback while pull runs, and adds what
// was asked of it to the sample.
func serveLayout(ctx context.Context, dir string, pull func(repository string) (sample, error)) (sample, error) {
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	if _, err := measure(ctx, self, "sign", "-layout", dir); err != nil {
		return sample{}, err
	}
	server, err := registry.NewServer(dir, registry.ServerOptions{})
	if err != nil {
		return sample{}, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return sample{}, err
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, listener) }()
	s, err := pull(listener.Addr().String() + "/server")
	stats := server.Stats()
	stop()
	if serveErr := <-ended; err == nil && ctx.Err() == nil {
		err = serveErr
	}
	s.requests, s.bytes = stats.Requests, stats.Bytes
	return s, err
}

// serveFiles serves a directory with nginx, which has nothing to do but to send
// files and to note what it sent.
func serveFiles(ctx context.Context, dir, work string, pull func(url string) (sample, error)) (sample, error) {
	address, err := freeAddress()
	if err != nil {
		return sample{}, err
	}
	if err := os.RemoveAll(work); err != nil {
		return sample{}, err
	}
	if err := os.MkdirAll(work, 0o755); err != nil {
		return sample{}, err
	}
	conf := filepath.Join(work, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, nginxConf, work, address, dir), 0o644); err != nil {
		return sample{}, err
	}
	nginx := exec.CommandContext(ctx, "nginx", "-e", filepath.Join(work, "error.log"), "-c", conf)
	var said bytes.Buffer
	nginx.Stderr = &said
	if err := nginx.Start(); err != nil {
		return sample{}, err
	}
	if err := awaitAnswer(ctx, address); err != nil {
		_ = nginx.Process.Kill()
		_ = nginx.Wait()
		return sample{}, fmt.Errorf("%w: %s", err, said.Bytes())
	}
	s, err := pull("http://" + address)
	// SIGQUIT: nginx ends when it has noted every answer.
	_ = nginx.Process.Signal(syscall.SIGQUIT)
	if waitErr := nginx.Wait(); err == nil {
		err = waitErr
	}
	if err != nil {
		return s, err
	}
	s.requests, s.bytes, err = readLog(filepath.Join(work, "access.log"))
	return s, err
}

const nginxConf = `daemon off; user root; worker_processes 1;
pid %[1]s/pid; error_log %[1]s/error.log;
events { worker_connections 256; }
http {
	sendfile on; tcp_nopush on; keepalive_requests 1000000; default_type application/octet-stream;
	log_format bytes '$body_bytes_sent'; access_log %[1]s/access.log bytes;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen %[2]s; root %[3]s; }
}
`

// freeAddress finds a port of loopback that nobody listens on.
func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	return l.Addr().String(), nil
}

// awaitAnswer waits until somebody listens.
func awaitAnswer(ctx context.Context, address string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("nginx does not answer: %w", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// readLog adds up what nginx noted, one number a request.
func readLog(name string) (requests, total int64, err error) {
	log, err := os.ReadFile(name)
	if err != nil {
		return 0, 0, err
	}
	for _, line := range strings.Fields(string(log)) {
		n, err := strconv.ParseInt(line, 10, 64)
		if err != nil {
			return 0, 0, fmt.Errorf("%q: %w", name, err)
		}
		requests, total = requests+1, total+n
	}
	return requests, total, nil
}
