// SPDX-License-Identifier: Apache-2.0

package otlp

import (
	"bufio"
	"context"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// sendsTo makes this test the process that sends: variables of proxies are read once.
const sendsTo = "SHEETBEND_TEST_SENDS_TO"

func TestProxiesOfTheEnvironmentAreUsed(t *testing.T) {
	if url := os.Getenv(sendsTo); url != "" {
		e, _, err := FindEndpoint(url, "", func(string) string { return "" })
		if err != nil {
			t.Fatal(err)
		}
		s := startSender(t, SenderConfig{Endpoint: e, Timeout: time.Second})
		defer s.Close()
		_, _ = s.Send(context.Background(), oneBatch(1)) // the proxy leads nowhere
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var asked []string
	var served sync.WaitGroup
	served.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil {
				mu.Lock()
				asked = append(asked, r.Method+" "+r.RequestURI)
				mu.Unlock()
			}
			_ = conn.Close()
		}
	})
	defer served.Wait()
	defer l.Close()
	proxy := "http://" + l.Addr().String()
	for url, want := range map[string]string{
		"http://backend.invalid:4318":  "POST http://backend.invalid:4318/v1/traces",
		"https://backend.invalid/otlp": "CONNECT backend.invalid:443",
		"http://backend.invalid:4317":  "CONNECT backend.invalid:4317",
	} {
		cmd := exec.Command(os.Args[0], "-test.run=^TestProxiesOfTheEnvironmentAreUsed$")
		cmd.Env = append(os.Environ(), sendsTo+"="+url, "HTTP_PROXY="+proxy, "HTTPS_PROXY="+proxy, "NO_PROXY=")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", url, err, out)
		}
		mu.Lock()
		if !slices.Contains(asked, want) {
			t.Errorf("%s: the proxy was asked for %s", url, strings.Join(asked, ", "))
		}
		asked = nil
		mu.Unlock()
	}
}
