// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net"
	"syscall"
	"testing"
)

func TestTheServiceManagerIsToldOnceTheSensorWatches(t *testing.T) {
	name := t.TempDir() + "/notify"
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	ready, err := serviceReady(identity{})
	if err != nil {
		t.Fatal(err)
	}
	if err := ready(); err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 64)
	if n, err := l.Read(text); err != nil || string(text[:n]) != "READY=1" {
		t.Errorf("%q, %v", text[:n], err)
	}

	t.Setenv("NOTIFY_SOCKET", "/nowhere")
	if _, err := serviceReady(identity{}); err == nil {
		t.Error("nobody is there")
	}
	// Through sudo the variable is the caller's, of whose files none is opened as root.
	if ready, err := serviceReady(identity{credential: &syscall.Credential{Uid: 1000}}); err != nil || ready() != nil {
		t.Errorf("a caller's: %v", err)
	}
}
