// SPDX-License-Identifier: Apache-2.0

package client

import (
	"bytes"
	"errors"
	"testing"
)

func FuzzReceive(f *testing.F) {
	f.Add([]byte(`{"ok":true,"version":"v1","sessions":[{"id":"s"}]}` + "\n"))
	f.Add([]byte(`{"ok":false,"error":"no"}` + "\n"))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := receive(bytes.NewReader(line))
		if refused := new(Error); err == nil && !r.OK || err != nil && r.OK || errors.As(err, &refused) && !bytes.Contains(line, []byte("\n")) {
			t.Fatalf("%+v, %v", r, err)
		}
	})
}
