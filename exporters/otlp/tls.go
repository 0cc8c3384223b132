// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc/credentials"
)

// TLS names the PEM files of a connection. Empty ones stand for the variables of the OTLP exporter
// (OTEL_EXPORTER_OTLP_CERTIFICATE and so on), and without those for the system's certificates.
type TLS struct {
	CA         string // certificates that the backend's is checked against
	Cert, Key  string // the client's own, for mutual TLS
	ServerName string // instead of the endpoint's host

	// As calls a function with the rights to read the files, each time that they are read; nil: those of this process.
	As func(func() error) error
}

// OrEnvironment fills in what the variables of a signal say.
func (t TLS) OrEnvironment(s Signal, getenv func(string) string) TLS {
	if t.CA == "" {
		t.CA = lookup(s, getenv, "CERTIFICATE")
	}
	if t.Cert == "" && t.Key == "" {
		t.Cert, t.Key = lookup(s, getenv, "CLIENT_CERTIFICATE"), lookup(s, getenv, "CLIENT_KEY")
	}
	return t
}

// Config is of the files as they are now.
func (t TLS) Config(s Signal, getenv func(string) string) (*tls.Config, error) {
	c, _, err := t.OrEnvironment(s, getenv).load()
	return c, err
}

// maxPEM bounds a certificate file, in bytes.
const maxPEM = 1 << 20

// load reads the files. seen is what they held.
func (t TLS) load() (c *tls.Config, seen []byte, err error) {
	c = &tls.Config{MinVersion: tls.VersionTLS12, ServerName: t.ServerName, NextProtos: []string{"h2"}}
	read := func(name string) []byte {
		var text []byte
		if err == nil {
			if text, err = readBounded(name, maxPEM, t.As); err == nil {
				seen = append(append(seen, text...), 0)
			}
		}
		return text
	}
	if t.CA != "" {
		text := read(t.CA)
		if err != nil {
			return nil, nil, fmt.Errorf("read the certificates to check the OTLP backend with: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, nil, fmt.Errorf("%s holds no PEM certificate to check the OTLP backend with", t.CA)
		}
	}
	if (t.Cert == "") != (t.Key == "") {
		return nil, nil, errors.New("a client certificate and its key only work together: name both files or none")
	}
	if t.Cert != "" {
		cert, key := read(t.Cert), read(t.Key)
		if err != nil {
			return nil, nil, fmt.Errorf("read the client certificate: %w", err)
		}
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, nil, fmt.Errorf("load the client certificate %s with the key %s: %w", t.Cert, t.Key, err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, seen, nil
}

// rotating reads the files for each new connection, so that renewed certificates (the backend's issuer's, too) need no
// restart. Connections that stand go on with the old ones.
type rotating struct {
	files TLS
	log   *slog.Logger

	mu      sync.Mutex
	last    *tls.Config
	seen    []byte
	version int // changes with what is seen
}

func newRotating(files TLS, log *slog.Logger) (*rotating, error) {
	c, seen, err := files.load()
	if err != nil {
		return nil, err
	}
	return &rotating{files: files, log: log, last: c, seen: seen}, nil
}

// config is of the files as they are now; as they were last, if they cannot be used: a renewal writes one file after
// the other.
func (r *rotating) config() (c *tls.Config, version int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, seen, err := r.files.load()
	switch {
	case err != nil:
		r.log.Warn("the certificates cannot be loaded again: those loaded before stay in use", "error", err)
	case !bytes.Equal(seen, r.seen):
		r.log.Info("certificates were renewed", "ca", r.files.CA, "client", r.files.Cert)
		r.last, r.seen, r.version = c, seen, r.version+1
	}
	return r.last.Clone(), r.version
}

// ClientHandshake implements credentials.TransportCredentials.
func (r *rotating) ClientHandshake(
	ctx context.Context, authority string, conn net.Conn,
) (net.Conn, credentials.AuthInfo, error) {
	c, _ := r.config()
	return credentials.NewTLS(c).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake implements credentials.TransportCredentials.
func (r *rotating) ServerHandshake(net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return nil, nil, errors.New("not a server")
}

// Info implements credentials.TransportCredentials.
func (r *rotating) Info() credentials.ProtocolInfo {
	return credentials.ProtocolInfo{SecurityProtocol: "tls"}
}

// Clone implements credentials.TransportCredentials. Nothing changes but what the lock guards.
func (r *rotating) Clone() credentials.TransportCredentials { return r }

// OverrideServerName implements credentials.TransportCredentials, and is not used: TLS.ServerName is.
func (r *rotating) OverrideServerName(string) error {
	return errors.New("the server name comes from the configuration")
}

// withRights calls do through as, if there is one.
func withRights(as func(func() error) error, do func() error) error {
	if as == nil {
		return do()
	}
	return as(do)
}

// readBounded reads a regular file of at most limit bytes. It never waits for the writer of a pipe, and reads nothing
// of /proc: there, a thread may look at all of its own process, whatever its rights are.
func readBounded(name string, limit int64, as func(func() error) error) (text []byte, err error) {
	err = withRights(as, func() error {
		f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			return err
		}
		var st unix.Statfs_t
		if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
			return err
		}
		if st.Type == unix.PROC_SUPER_MAGIC {
			return &os.PathError{Op: "open", Path: name, Err: os.ErrPermission}
		}
		if info.Mode().IsRegular() {
			text, err = io.ReadAll(io.LimitReader(f, limit+1))
		}
		if err == nil && (!info.Mode().IsRegular() || int64(len(text)) > limit) {
			text, err = nil, fmt.Errorf("%s is no regular file of at most %d bytes", name, limit)
		}
		return err
	})
	return text, err
}

// noPipes refuses variables that name what the library, which reads the files of all of them, would wait for.
func noPipes() error {
	for _, signal := range []string{"", "TRACES_"} {
		for _, what := range []string{"CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY"} {
			key := "OTEL_EXPORTER_OTLP_" + signal + what
			name := os.Getenv(key)
			if info, err := os.Stat(name); name != "" && err == nil && !info.Mode().IsRegular() {
				return fmt.Errorf("%s names %s, which is no regular file", key, name)
			}
		}
	}
	return nil
}
