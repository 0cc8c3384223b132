// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"

	"github.com/sheetbend/sheetbend/collector/cgroup"
	"github.com/sheetbend/sheetbend/collector/live"
	"github.com/sheetbend/sheetbend/enrich/agents"
	"github.com/sheetbend/sheetbend/enrich/marker"
	"github.com/sheetbend/sheetbend/enrich/marker/client"
	"github.com/sheetbend/sheetbend/enrich/socket"
	"github.com/sheetbend/sheetbend/exporters/sessions"
)

// newView keeps what sheetbend sessions asks for.
func newView() *sessions.View { return sessions.New(sessions.Options{User: uint32(os.Geteuid())}) }

// serveLocal serves the local API of a watch at a socket, until the watch ends. false, and a line in the log, if that
// fails: spans flow without it.
func serveLocal(
	socket string, w *watch, dialects []agents.Dialect, view *sessions.View, out *outputs, m cgroup.Mount,
	log *slog.Logger,
) bool {
	if socket == "" {
		return false
	}
	o := marker.Options{
		Path: socket, Inject: w.pipeline.Feed.Inject, Clock: live.SystemClock, Log: log, Dialects: dialects,
		Sandbox:  w.sandboxOf,
		CgroupOf: m.Of,
		CgroupID: func(cg string) (uint64, error) { return m.ID(path.Clean(cg)) },
	}
	if w.pipeline.Collector != nil {
		o.InjectForResult = w.pipeline.Feed.InjectAnd
	}
	if view != nil {
		o.View = view
	}
	if w.users != nil {
		o.Watches = w.users
	}
	if out != nil && out.recorder != nil {
		o.Recordings = out.recorder
	}
	s, err := marker.Listen(o)
	if err != nil {
		log.Warn("hooks, sheetbend call and sheetbend sessions cannot reach this sensor", "err", err)
		return false
	}
	w.inputs.add("local API", func() error {
		if err := s.Close(); err != nil {
			log.Warn(err.Error())
		}
		return nil
	})
	return true
}

// socketDir is where sheetbend's sockets are: of root for all users, of a user for itself.
func socketDir(euid int, getenv func(string) string) (string, error) {
	if euid == 0 {
		return filepath.Dir(client.DefaultSocket), nil
	}
	if dir := getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sheetbend"), nil
	}
	return "", errors.New("no directory for the socket: set XDG_RUNTIME_DIR")
}

// runSocket is the socket of one run. Those of killed runs are removed.
func runSocket(name string) (string, error) {
	dir, err := socketDir(os.Geteuid(), os.Getenv)
	if err != nil {
		return "", err
	}
	old, _ := filepath.Glob(filepath.Join(dir, runPrefix+"*.sock")) // its one error is a wrong pattern
	for _, left := range old {
		if served, err := socket.Served(left); err == nil && !served {
			_ = os.Remove(left)
		}
	}
	return filepath.Join(dir, name+".sock"), nil
}

// A sensor is the client of one, and with whose rights it is connected to.
type sensor struct {
	*client.Client
	as rights
}

// sensorAt is the sensor at a socket, which the caller named unless it is where root's are.
func sensorAt(socket string) sensor {
	s := sensor{client.New(socket), identity{}.rights}
	if filepath.Dir(socket) == filepath.Dir(client.DefaultSocket) {
		return s
	}
	by, err := caller()
	s.as = by.rights
	if err != nil {
		s.as = func(func() error) error { return err }
	}
	return s
}

func (s sensor) sessions(ctx context.Context) ([]client.Session, error) {
	return with(s.as, func() ([]client.Session, error) { return s.Sessions(ctx) })
}

func (s sensor) session(ctx context.Context, id string) (*client.Tree, error) {
	return with(s.as, func() (*client.Tree, error) { return s.Session(ctx, id) })
}

// sensors are all that this user may find; one, if a socket is given.
func sensors(socket string) []sensor {
	if socket != "" {
		return []sensor{sensorAt(socket)}
	}
	found := map[string]bool{}
	var out []sensor
	add := func(names ...string) {
		for _, name := range names {
			if name != "" && !found[name] {
				found[name] = true
				out = append(out, sensorAt(name))
			}
		}
	}
	add(os.Getenv(client.EnvSocket))
	for _, euid := range []int{0, os.Geteuid()} {
		if dir, err := socketDir(euid, os.Getenv); err == nil {
			names, _ := filepath.Glob(filepath.Join(dir, "*.sock"))
			add(names...)
		}
	}
	return out
}

// noSensor says what to do when none answers.
func noSensor(socket string) error {
	if socket != "" {
		return fmt.Errorf("no sensor serves %s: start sheetbend sensor or sheetbend run", socket)
	}
	return errors.New("no sensor runs on this host: " +
		"start sheetbend sensor or sheetbend run, or name its socket with --socket")
}
