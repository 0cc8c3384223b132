// SPDX-License-Identifier: Apache-2.0

package docker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sheetbend/sheetbend/collector/record"
	"github.com/sheetbend/sheetbend/enrich/container"
)

var (
	webID = strings.Repeat("b", 64)
	podID = strings.Repeat("a", 64)
)

func serve(t *testing.T, podman bool, events chan string) *Client {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "d.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /_ping", func(w http.ResponseWriter, _ *http.Request) {
		if podman {
			w.Header().Set("Libpod-API-Version", "4.3.1")
		}
		fmt.Fprint(w, "OK")
	})
	mux.HandleFunc("GET /containers/{id}/json", func(w http.ResponseWriter, r *http.Request) {
		switch r.PathValue("id") {
		case webID:
			fmt.Fprintf(w, `{"Id":%q,"Name":"/web","Config":{"Image":"registry.example/web:1.2","Labels":{"app":"shop"}}}`, webID)
		case podID: // a container that is called so
			fmt.Fprintf(w, `{"Id":%q,"Name":"/%s","Config":{}}`, webID, podID)
		default:
			http.NotFound(w, r)
		}
	})
	mux.HandleFunc("GET /containers/json", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `[{"Id":%q,"Names":["/other/alias","/web"],"Image":"sha256:%s","Labels":null}]`, webID, podID)
	})
	mux.HandleFunc("GET /events", func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("since") == "" || !strings.Contains(r.URL.Query().Get("filters"), "create") {
			http.Error(w, "", http.StatusBadRequest)
			return
		}
		for e := range events { // the head of the answer comes with the first, as Podman has it
			fmt.Fprintln(w, e)
			w.(http.Flusher).Flush()
		}
	})
	s := &httptest.Server{Listener: l, Config: &http.Server{Handler: mux}}
	s.Start()
	t.Cleanup(s.Close)
	c := New(socket, nil)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestFindTellsOfAContainer(t *testing.T) {
	for podman, runtime := range map[bool]string{false: "docker", true: "podman"} {
		c := serve(t, podman, nil)
		got, err := c.Find(t.Context(), webID)
		if err != nil {
			t.Fatal(err)
		}
		if got.ID != webID || got.Runtime != runtime || got.Name != "web" || got.Image != "registry.example/web" || got.Tag != "1.2" || len(got.Labels) != 1 {
			t.Errorf("%+v", got)
		}
		for _, id := range []string{podID, strings.Repeat("d", 64), "../../x"} {
			if got, err := c.Find(t.Context(), id); !errors.Is(err, container.ErrUnknown) {
				t.Errorf("%s: %+v, %v", id, got, err)
			}
		}
	}
}

func TestWatchTellsOfWhatIsThereAndWhatIsMade(t *testing.T) {
	events := make(chan string, 8)
	c := serve(t, false, events)
	told := make(chan record.Container, 16)
	ended := make(chan error, 1)
	go func() { ended <- c.Watch(t.Context(), func(i record.Container) { told <- i }) }()
	if got := <-told; got.ID != webID || got.Name != "web" || got.Image != "" {
		t.Errorf("%+v", got)
	}
	events <- `{"Type":"network","Action":"create","Actor":{"ID":"x"}}`
	events <- fmt.Sprintf(`{"Type":"container","Action":"create","Actor":{"ID":%q,"Attributes":{"image":"pause:3","name":"k8s_POD",`+
		`"io.kubernetes.pod.name":"shop-0","io.kubernetes.pod.namespace":"prod","io.kubernetes.container.name":"POD"}}}`, podID)
	if got := <-told; got.ID != podID || got.Pod != "shop-0" || got.Namespace != "prod" || got.PodPart != "" || got.Image != "pause" || len(got.Labels) != 3 {
		t.Errorf("%+v", got)
	}
	close(events)
	if err := <-ended; err == nil {
		t.Error("the end of the engine is no error")
	}
}

func TestAnEngineThatSendsNonsenseIsAnError(t *testing.T) {
	events := make(chan string, 1)
	c := serve(t, false, events)
	events <- "{"
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	defer close(events)
	if err := c.Watch(ctx, func(record.Container) {}); err == nil {
		t.Error("no error")
	}
}
