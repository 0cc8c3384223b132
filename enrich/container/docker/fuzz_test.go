// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"bytes"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
)

// answers is an engine that says the same to each question; whoever owns its socket may be anybody.
type answers struct{ body []byte }

func (a answers) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a.body))}, nil
}

func FuzzAnswers(f *testing.F) {
	f.Add([]byte(`{"Id":"` + webID + `","Name":"/web","Config":{"Image":"registry.example/web:1.2","Labels":{"app":"shop","io.kubernetes.pod.name":"p"}}}`))
	f.Add([]byte(`[{"Id":"` + webID + `","Names":["/other/alias","/web"],"Image":"sha256:` + podID + `","Labels":null},null]`))
	f.Add([]byte(`{"Type":"container","Action":"create","Actor":{"ID":"` + webID + `","Attributes":{"image":"a/b@sha256:c","name":"web","app":"shop"}}}` + "\n{\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &Client{socket: "fuzz", http: &http.Client{Transport: answers{body}}}
		var mu sync.Mutex
		var told []record.Container
		report := func(info record.Container) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, info)
		}
		if err := c.Watch(t.Context(), report); err == nil {
			t.Fatal("the stream of events has no end")
		}
		if info, err := c.Find(t.Context(), webID); err == nil {
			if info.ID != webID {
				t.Fatalf("asked for %s: %+v", webID, info)
			}
			report(info)
		}
		for _, info := range told {
			var e record.Event
			if err := e.Decode(record.AppendContainer(nil, 1, info)); err != nil {
				t.Fatalf("%+v: %v", info, err)
			}
			if strings.HasPrefix(info.Name, "//") {
				t.Fatalf("%q", info.Name)
			}
		}
	})
}
