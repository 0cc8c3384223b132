// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"os"
)

// serviceReady gives what tells the service manager that the sensor watches, as sd_notify(3) has it. The socket is opened
// now, for a confined sensor can open none. Without a manager it does nothing; nor through sudo, where the variable is
// the caller's.
func serviceReady(by identity) (func() error, error) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" || by.other() {
		return func() error { return nil }, nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("connect to the service manager: %w", err)
	}
	return func() error {
		defer func() { _ = c.Close() }()
		if _, err := c.Write([]byte("READY=1")); err != nil {
			return fmt.Errorf("tell the service manager: %w", err)
		}
		return nil
	}, nil
}
