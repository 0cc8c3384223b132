// SPDX-License-Identifier: Apache-2.0

package bpf

import "testing"

func FuzzManifest(f *testing.F) {
	f.Add([]byte(`{"Format":1,"Content":"x","Maps":{"ring":1},"Links":[{"Name":"a","ID":1}],"Hooks":[{"Name":"a"}]}`))
	f.Add([]byte(`{"Format":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseManifest(text)
		if (err == nil) != (m != nil) || m != nil && m.Format != manifestFormat {
			t.Errorf("%+v, %v", m, err)
		}
	})
}
