// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.opentelemetry.io/collector/pdata/ptrace"
	"golang.org/x/net/dns/dnsmessage"
)

const (
	// asClient makes the test binary a program that gets a URL.
	asClient = "SHEETBEND_TEST_AS_CLIENT"
	// asResolver makes it one that answers lookups at an address until its input ends.
	asResolver = "SHEETBEND_TEST_AS_RESOLVER"

	// Of the loopback: whatever else answers at port 53 has another one.
	resolverAt, ownResolverAt, serverAt = "127.0.53.1", "127.0.53.9", "127.0.53.2"
)

// secret is what a client sends and no argument has.
func secret() string { return strings.Repeat("hush", 3) }

func getURL(url string) int {
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	r, err := http.NewRequest(http.MethodGet, url, nil)
	if err == nil {
		r.Header.Set("Authorization", secret())
		_, err = client.Do(r)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func resolveAt(address string) int {
	c, err := net.ListenPacket("udp4", net.JoinHostPort(address, "53"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	go serveLookups(c)
	fmt.Println("answers")
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

// serveLookups gives every name below names.test the address of the server, by an alias.
func serveLookups(c net.PacketConn) {
	b := make([]byte, 4096)
	for {
		n, from, err := c.ReadFrom(b)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(b[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		q := m.Questions[0]
		m.Response, m.Additionals = true, nil
		alias := dnsmessage.MustNewName("alias.cdn.test.")
		head := func(n dnsmessage.Name) dnsmessage.ResourceHeader {
			return dnsmessage.ResourceHeader{Name: n, Class: dnsmessage.ClassINET}
		}
		if m.Answers = []dnsmessage.Resource{{Header: head(q.Name), Body: &dnsmessage.CNAMEResource{CNAME: alias}}}; q.Type == dnsmessage.TypeA {
			a := netip.MustParseAddr(serverAt).As4()
			m.Answers = append(m.Answers, dnsmessage.Resource{Header: head(alias), Body: &dnsmessage.AResource{A: a}})
		}
		if answer, err := m.Pack(); err == nil {
			_, _ = c.WriteTo(answer, from)
		}
	}
}

// needTool says whether a program is installed. In CI it has to be, but for node, which not all images have.
func needTool(t *testing.T, name string) bool {
	_, err := exec.LookPath(name)
	if err != nil && name != "node" && os.Getenv("CI") != "" {
		t.Fatalf("needs %s", name)
	}
	if err != nil {
		t.Logf("no %s here: left out", name)
	}
	return err == nil
}

// TestNamesOfDestinations: what real programs look up and connect to has its name; what they only say is claimed.
func TestNamesOfDestinations(t *testing.T) {
	needRoot(t)
	c, err := net.ListenPacket("udp4", net.JoinHostPort(resolverAt, "53"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	go serveLookups(c)
	var got sync.Map // hosts that were asked for with the secret
	serve := func(start func(*httptest.Server)) string {
		l, err := net.Listen("tcp4", net.JoinHostPort(serverAt, "0"))
		if err != nil {
			t.Fatal(err)
		}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == secret() {
				host, _, _ := net.SplitHostPort(r.Host)
				got.Store(host, true)
			}
		}))
		_ = s.Listener.Close()
		s.Listener = l
		s.Config.ErrorLog = nil
		start(s)
		t.Cleanup(s.Close)
		_, port, _ := net.SplitHostPort(l.Addr().String())
		return port
	}
	secure, plain := serve((*httptest.Server).StartTLS), serve((*httptest.Server).Start)
	dir := t.TempDir()
	conf := func(name, server string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte("nameserver "+server+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	outside, own := conf("outside", resolverAt), conf("own", ownResolverAt)
	capture, output := filepath.Join(dir, "capture"), filepath.Join(dir, "spans.jsonl")
	self := "/proc/" + fmt.Sprint(os.Getpid()) + "/exe"
	// Each runs with its own resolver, in a mount namespace.
	with := func(conf, command string) string {
		return "unshare -m sh -c 'mount --bind " + conf + " /etc/resolv.conf && " + command + "' || exit 9\n"
	}
	url := func(name, port string) string { return "https://" + name + ".names.test:" + port + "/path-" + name }
	type want struct{ address, source, claimed string }
	wants := map[string]want{
		"go": {"go.names.test", "dns", ""}, "goplain": {"goplain.names.test", "dns", ""},
		"goown": {serverAt, "tls", "goown.names.test"},
	}
	// First what is only claimed: a name from outside that an address had in the sandbox goes before.
	script := "{ mkfifo " + dir + "/end; " + asResolver + "=" + ownResolverAt + " " + self + " <" + dir + "/end >" + dir + "/answers & exec 3>" + dir + "/end\n" +
		"until grep -q answers " + dir + "/answers; do :; done; }\n" +
		with(own, asClient+"="+url("goown", secure)+" "+self) + "exec 3>&-; wait\n"
	if needTool(t, "curl") {
		script += with(outside, "curl -sk --resolve claims.names.test:"+secure+":"+serverAt+" "+url("claims", secure))
		wants["claims"] = want{serverAt, "tls", "claims.names.test"}
	}
	script += with(outside, asClient+"="+url("go", secure)+" "+self) +
		with(outside, asClient+"="+strings.Replace(url("goplain", plain), "https", "http", 1)+" "+self)
	for _, tool := range []struct{ name, command string }{
		{"curl", "curl -sk " + url("curl", secure)},
		{"python3", `python3 -c "import ssl,urllib.request as u; u.urlopen(\"` + url("python3", secure) + `\", context=ssl._create_unverified_context()).read()"`},
		{"node", `NODE_TLS_REJECT_UNAUTHORIZED=0 node --no-warnings -e "require(\"https\").get(\"` + url("node", secure) + `\").on(\"response\", r => r.resume())"`},
	} {
		if needTool(t, tool.name) {
			script += with(outside, tool.command)
			wants[tool.name] = want{tool.name + ".names.test", "dns", ""}
		}
	}
	r := sheetbendRun(t, "run", "--quiet", "--record", capture, "--output", output, "--", "sh", "-c", script)
	if r.code != 0 {
		t.Fatal(describeResult(r))
	}
	if _, ok := got.Load("goplain.names.test"); !ok {
		t.Error("the server has not got the secret")
	}
	data, err := os.ReadFile(capture)
	if err != nil || bytes.Contains(data, []byte(secret())) {
		t.Errorf("the capture of %d bytes has the secret, %v", len(data), err)
	}
	data, err = os.ReadFile(output)
	if err != nil {
		t.Fatal(err)
	}
	connects, lookups := map[want]int{}, map[string]ptrace.Span{}
	for _, s := range parseSpans(t, data) {
		switch attribute(s, "sheetbend.event") {
		case "net.connect":
			if attribute(s, "network.peer.address") == serverAt && attribute(s, "network.transport") == "tcp" {
				connects[want{attribute(s, "server.address"), attribute(s, "sheetbend.server.name.source"), attribute(s, "sheetbend.server.name.claimed")}]++
			}
		case "dns.lookup":
			if name := attribute(s, "dns.question.name"); attribute(s, "sheetbend.dns.question.type") == "A" {
				lookups[name] = s
			}
		}
	}
	for name, w := range wants {
		if connects[w] != 1 {
			t.Errorf("%s: want %+v in %+v", name, w, connects)
		}
		if w.claimed != "" {
			continue
		}
		s, ok := lookups[name+".names.test"]
		if !ok || attribute(s, "dns.answers") != `["`+serverAt+`"]` || attribute(s, "network.peer.address") != resolverAt || attribute(s, "sheetbend.dns.claimed") != "" {
			t.Errorf("%s: %v %v", name, ok, s.Attributes().AsRaw())
		}
	}
	if s, ok := lookups["goown.names.test"]; !ok || attribute(s, "sheetbend.dns.claimed") != "true" {
		t.Errorf("a lookup that the sandbox answers: %v", ok)
	}
}
