// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sheetbend/sheetbend/cmd/sheetbend/config"
	"github.com/sheetbend/sheetbend/cmd/sheetbend/sensortest"
	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/collector/span"
)

// An account is what an ordinary session did, as those tell it who did it: it is made without a sensor. testdata/ordinary.json has that
// of the session in testdata/ordinary.capture.gz.
type account struct {
	Work  string        `json:"work"` // the workspace
	Calls []accountCall `json:"calls"`
}

// An accountCall is one tool call. Paths of files are absolute; directories are not in it.
type accountCall struct {
	Command string `json:"command"`
	Exit    int    `json:"exit"`

	// What is different in the file system after it, found by comparing.
	Created  []string `json:"created,omitempty"`
	Modified []string `json:"modified,omitempty"`
	Deleted  []string `json:"deleted,omitempty"`

	// What whoever wrote the command knows of it.
	Programs []string `json:"programs,omitempty"` // beginnings of command lines
	Secrets  []string `json:"secrets,omitempty"`  // sensitive files that are read
	Refused  []string `json:"refused,omitempty"`  // files that may not be read
	Connects []string `json:"connects,omitempty"` // address:port, and the errno where it fails
	Listens  []string `json:"listens,omitempty"`  // address:port
	Outside  []string `json:"outside,omitempty"`  // files changed outside of the workspace
	Renamed  []string `json:"renamed,omitempty"`  // old name, new name
}

// ordinary is the session: thirteen calls as agents make them. It needs no network. root is the directory of all of
// it, api the address of a server, port a free port of this host, closed a port where nobody listens.
func ordinary(root, api, port, closed string) account {
	shop, home := root+"/work/shop", root+"/home"
	return account{Work: root + "/work", Calls: []accountCall{
		{Command: "git clone -q " + root + "/origin shop", Programs: []string{"git clone -q"}},
		{Command: "cd shop/web && npm install --no-audit --no-fund", Connects: []string{api}, Programs: []string{"node /usr/bin/npm install", "node post.js"}},
		{Command: "cd shop && go build -o bin/shop .", Programs: []string{"go build -o bin/shop ."}},
		{Command: "cd shop && go test ./...", Programs: []string{"go test ./..."}},
		{Command: "cd shop && grep -rn TODO . | head -3", Programs: []string{"grep -rn TODO .", "head -3"}},
		{Command: "cd shop && sed -i 's/0.2/0.19/' cart/cart.go && git commit -qam taxes",
			Programs: []string{"sed -i s/0.2/0.19/ cart/cart.go", "git commit -qam taxes"}},
		{Command: "cd shop && find old/legacy -type f -delete && mv CHANGES CHANGELOG.md && git status --short",
			Programs: []string{"find old/legacy -type f -delete", "mv CHANGES CHANGELOG.md", "git status --short"},
			Renamed:  []string{shop + "/CHANGES", shop + "/CHANGELOG.md"}},
		{Command: "cd shop && curl -sS -X POST -H 'Authorization: Bearer 0123456789abcdef0123' -d @config.yaml http://" + api + "/orders",
			Programs: []string{"curl -sS -X POST -H 'Authorization: Bearer ****'"}, Connects: []string{api}},
		{Command: "head -2 ~/.aws/credentials", Programs: []string{"head -2 "}, Secrets: []string{home + "/.aws/credentials"}},
		{Command: "echo '# shop' > " + root + "/etc/cron.d/shop", Outside: []string{root + "/etc/cron.d/shop"}},
		{Command: "setpriv --reuid=65534 --clear-groups head -1 /etc/shadow", Exit: 1, Programs: []string{"setpriv ", "head -1 /etc/shadow"},
			Refused: []string{"/etc/shadow"}},
		{Command: "cd shop && PORT=" + port + " node server.js >server.log 2>&1 &", Programs: []string{"node server.js"},
			Listens: []string{"127.0.0.1:" + port}},
		{Command: "curl -sS http://127.0.0.1:" + closed + "/health || exit 3", Exit: 3, Programs: []string{"curl -sS http://127.0.0.1"},
			Connects: []string{"127.0.0.1:" + closed + " ECONNREFUSED"}},
	}}
}

const ordinaryHarness = `n=0
while read -r command; do
	n=$((n + 1))
	HARNESS_SESSION=ordinary HARNESS_CALL=call-$n sh -c "$command" </dev/null >&2
	echo "$?"
done
`

const ordinaryConfig = `agents:
  - name: harness
    executables: [harness]
    env: {session: [HARNESS_SESSION], call: [HARNESS_CALL], calls_named: true}
`

// furnish makes all that the session needs.
func furnish(t *testing.T, root string) {
	t.Helper()
	write := func(name, text string, mode fs.FileMode) {
		t.Helper()
		name = filepath.Join(root, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o755), os.WriteFile(name, []byte(text), mode)); err != nil {
			t.Fatal(err)
		}
	}
	shell, err := os.ReadFile("/bin/sh")
	if err != nil {
		t.Fatal(err)
	}
	write("bin/harness", string(shell), 0o755)
	write("harness.sh", ordinaryHarness, 0o644)
	write("harness.yaml", ordinaryConfig, 0o644)
	write("home/.gitconfig", "[user]\n\tname = Shop\n\temail = shop@example\n[init]\n\tdefaultBranch = main\n", 0o644)
	write("home/.aws/credentials", "[default]\naws_secret_access_key = none\n", 0o600)
	write("etc/cron.d/.placeholder", "", 0o644)
	write("work/.placeholder", "", 0o644)

	dependencies := map[string]string{}
	for i := range npmPackages {
		dependencies[npmName(i)] = "1.0.0"
	}
	text, err := json.Marshal(map[string]any{"name": "web", "version": "1.0.0", "dependencies": dependencies})
	if err != nil {
		t.Fatal(err)
	}
	write("origin/web/package.json", string(text), 0o644)
	write("origin/go.mod", "module shop.example/shop\n\ngo 1.21\n", 0o644)
	write("origin/main.go", "package main\n\nimport (\n\t\"encoding/json\"\n\t\"fmt\"\n\n\t\"shop.example/shop/cart\"\n)\n\nfunc main() { text, _ := json.Marshal(cart.Tax(100)); fmt.Println(string(text)) }\n", 0o644)
	write("origin/cart/cart.go", "package cart\n\n// Tax is what is owed. TODO: by country.\nfunc Tax(net float64) float64 { return net * 0.2 }\n", 0o644)
	write("origin/cart/cart_test.go", "package cart\n\nimport \"testing\"\n\nfunc TestTax(t *testing.T) {\n\tif Tax(0) != 0 {\n\t\tt.Fail()\n\t}\n}\n", 0o644)
	write("origin/config.yaml", "partner: api\n", 0o644)
	write("origin/CHANGES", "1.0\n", 0o644)
	write("origin/.gitignore", "node_modules/\nbin/\nserver.log\n", 0o644)
	write("origin/server.js", "require('http').createServer((q, a) => a.end()).listen(process.env.PORT, '127.0.0.1')\n", 0o644)
	for i := range 46 {
		write(fmt.Sprintf("origin/old/legacy/part-%02d/old.txt", i%5)+strconv.Itoa(i), "old\n", 0o644)
	}
	for _, args := range [][]string{
		{"git", "-C", "origin", "init", "-q"}, {"git", "-C", "origin", "add", "-A"}, {"git", "-C", "origin", "commit", "-qm", "shop"},
		{"sh", "-c", "cd origin && go build -o /dev/null . && go vet ./... && go test -count=1 ./..."}, // so that the caches are warm
	} {
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Dir, cmd.Env = root, ordinaryEnv(root)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
}

func ordinaryEnv(root string) []string {
	env := []string{"HOME=" + root + "/home", "GOFLAGS=-mod=mod", "GOPROXY=off", "GOTOOLCHAIN=local", "CGO_ENABLED=0", "LANG=C.UTF-8"}
	for _, name := range []string{"PATH", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	return env
}

const npmPackages = 72 // as express has

func npmName(i int) string { return fmt.Sprintf("package-%02d", i) }

// npmPackage is what one of them is published as: what a registry says of it, and its tarball.
func npmPackage(i int, url string) (about, tarball []byte, err error) {
	name := npmName(i)
	version := map[string]any{"name": name, "version": "1.0.0", "main": "lib/index.js"}
	files := map[string]string{}
	for _, file := range []string{"README.md", "LICENSE", "index.d.ts", "lib/index.js", "lib/parse.js", "lib/format.js", "lib/util/list.js", "lib/util/map.js", "test/test.js"} {
		files[file] = "// " + name + "\n"
	}
	if i == 0 {
		version["scripts"] = map[string]string{"postinstall": "node post.js"}
		files["post.js"] = "require('fs').writeFileSync('built.txt', 'built')\n"
	}
	text, err := json.Marshal(version)
	if err != nil {
		return nil, nil, err
	}
	files["package.json"] = string(text)
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	w := tar.NewWriter(z)
	for _, file := range slices.Sorted(maps.Keys(files)) {
		err = errors.Join(err, w.WriteHeader(&tar.Header{Name: "package/" + file, Mode: 0o644, Size: int64(len(files[file]))}))
		_, writeErr := io.WriteString(w, files[file])
		err = errors.Join(err, writeErr)
	}
	if err = errors.Join(err, w.Close(), z.Close()); err != nil {
		return nil, nil, err
	}
	sum := sha512.Sum512(packed.Bytes())
	version["hasInstallScript"] = i == 0
	version["dist"] = map[string]string{
		"tarball": url + name + "/-/" + name + "-1.0.0.tgz", "integrity": "sha512-" + base64.StdEncoding.EncodeToString(sum[:]),
	}
	about, err = json.Marshal(map[string]any{
		"name": name, "dist-tags": map[string]string{"latest": "1.0.0"}, "versions": map[string]any{"1.0.0": version},
	})
	return about, packed.Bytes(), err
}

// serveOrdinary is the registry, and whoever else is asked.
func serveOrdinary(w http.ResponseWriter, r *http.Request) {
	var i int
	if _, err := fmt.Sscanf(r.URL.Path, "/package-%02d", &i); err != nil {
		return
	}
	about, tarball, err := npmPackage(i, "http://"+r.Host+"/")
	switch {
	case err != nil:
		w.WriteHeader(http.StatusInternalServerError)
	case strings.HasSuffix(r.URL.Path, ".tgz"):
		_, _ = w.Write(tarball)
	default:
		_, _ = w.Write(about)
	}
}

// A file is how it was at a moment.
type fileState struct {
	inode uint64
	size  int64
	mode  fs.FileMode
	time  int64
}

// snapshot looks at all files but those in caches of tools, whose names are hashes.
func snapshot(t *testing.T, root string) map[string]fileState {
	t.Helper()
	files := map[string]fileState{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		switch {
		case err == nil && (e.Name() == "_cacache" || e.Name() == "go-build"): // of npm and go
			return fs.SkipDir
		case errors.Is(err, fs.ErrNotExist) || err == nil && e.IsDir():
			return nil
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return nil // it is gone
		}
		st := info.Sys().(*syscall.Stat_t)
		files[path] = fileState{st.Ino, info.Size(), info.Mode(), info.ModTime().UnixNano()}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// changed notes what is different in the file system.
func (k *accountCall) changed(before, after map[string]fileState) {
	for _, path := range slices.Sorted(maps.Keys(after)) {
		if old, was := before[path]; !was {
			k.Created = append(k.Created, path)
		} else if old != after[path] {
			k.Modified = append(k.Modified, path)
		}
	}
	for _, path := range slices.Sorted(maps.Keys(before)) {
		if _, is := after[path]; !is {
			k.Deleted = append(k.Deleted, path)
		}
	}
}

// liveOrdinary runs the session below root, watched, and gives its account and the file of its capture.
func liveOrdinary(t *testing.T, root string) (account, string) {
	t.Helper()
	furnish(t, root)
	server := &http.Server{Handler: http.HandlerFunc(serveOrdinary)}
	api := listenLocal(t)
	go func() { _ = server.Serve(api) }()
	t.Cleanup(func() { _ = server.Close() })
	free, closed := listenLocal(t), listenLocal(t)
	_, port, _ := net.SplitHostPort(free.Addr().String())
	_, nobody, _ := net.SplitHostPort(closed.Addr().String())
	free.Close()
	closed.Close()
	told := ordinary(root, api.Addr().String(), port, nobody)

	raw := filepath.Join(t.TempDir(), "capture")
	cmd := sheetbend(t, "run", "--quiet", "--leftovers", "kill", "--config", root+"/harness.yaml", "--record", raw, "--",
		root+"/bin/harness", root+"/harness.sh")
	cmd.Dir, cmd.Env = told.Work, append(ordinaryEnv(root), asCommand+"=1", "npm_config_registry=http://"+api.Addr().String()+"/", "npm_config_update_notifier=false")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said strings.Builder
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(out)
	before := snapshot(t, root)
	for i := range told.Calls {
		k := &told.Calls[i]
		if _, err := io.WriteString(in, k.Command+"\n"); err != nil {
			t.Fatal(err)
		}
		code, err := answers.ReadString('\n')
		if code = strings.TrimSpace(code); err != nil || code != strconv.Itoa(k.Exit) {
			t.Fatalf("%s: exit code %q, %v:\n%s", k.Command, code, err, said.String())
		}
		for _, address := range k.Listens {
			sensortest.Succeeds(t, "the server listens", func() error {
				c, err := net.Dial("tcp", address)
				if err == nil {
					err = c.Close()
				}
				return err
			})
		}
		after := snapshot(t, root)
		k.changed(before, after)
		before = after
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatalf("%v:\n%s", err, said.String())
	}
	return told, raw
}

func listenLocal(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// A taking is a session's spans as one command makes them.
type taking struct {
	t     *testing.T
	spans []*span.Span
}

func (r *taking) Span(s *span.Span) {
	c := *s
	c.Attrs, c.Links = slices.Clone(s.Attrs), slices.Clone(s.Links)
	for i := range c.Attrs {
		c.Attrs[i].List = slices.Clone(c.Attrs[i].List)
	}
	r.spans = append(r.spans, &c)
}

func (r *taking) Flush() {}

// in gives the spans of a call, by its number from 1.
func (r *taking) in(call int) (found []*span.Span) {
	id := "call-" + strconv.Itoa(call)
	for _, s := range r.spans {
		if span.Attrs(s.Attrs).Text(span.KeyCallID) == id {
			found = append(found, s)
		}
	}
	return found
}

// as makes the spans of a capture with another configuration of the spans than it was recorded with.
func as(t *testing.T, r *capture.Reader, c *config.Config, change func(*collector.Config)) *taking {
	t.Helper()
	now, err := collectorConfig(c, func(string) string { return "" }, false, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	cc := r.Header().Config
	cc.Noise, cc.Sensitive, cc.Fold = now.Noise, now.Sensitive, now.Fold
	if change != nil {
		change(&cc)
	}
	out := &taking{t: t}
	coll, err := collector.New(cc, out)
	if err != nil {
		t.Fatal(err)
	}
	if err := feedCapture(coll, r, nil); err != nil {
		t.Fatal(err)
	}
	coll.Close()
	return out
}

const ordinaryFile = "../../testdata/ordinary"

var recordOrdinary = flag.Bool("record-ordinary", false, "record testdata/ordinary.capture.gz anew")

func openOrdinary(t *testing.T) (account, *capture.Reader) {
	t.Helper()
	var told account
	text, err := os.ReadFile(ordinaryFile + ".json")
	if err := errors.Join(err, json.Unmarshal(text, &told)); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(ordinaryFile + ".capture.gz")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	r, err := capture.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	return told, r
}

// Recorded with `go test ./cmd/sheetbend -run RecordOrdinary -record-ordinary`, as root.
func TestRecordOrdinarySession(t *testing.T) {
	if !*recordOrdinary {
		return
	}
	needRoot(t)
	const root = "/srv/sheetbend-ordinary"
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Mkdir(root, 0o755); err != nil {
		t.Fatal(err)
	}
	told, raw := liveOrdinary(t, root)
	text, err := json.MarshalIndent(told, "", " ")
	if err := errors.Join(err, os.WriteFile(ordinaryFile+".json", append(text, '\n'), 0o644)); err != nil {
		t.Fatal(err)
	}
	in, err := os.Open(raw)
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	r, err := capture.NewReader(in)
	if err != nil {
		t.Fatal(err)
	}
	h := r.Header()
	h.Sensor, h.Config.BootID, h.Config.Resource, h.Config.Hosts = "fixture", "00000000-0000-4000-8000-000000000000", nil, nil
	out, err := os.Create(ordinaryFile + ".capture.gz")
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewWriterLevel(out, gzip.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	w, err := capture.NewWriter(z, h)
	if err != nil {
		t.Fatal(err)
	}
	for {
		record, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err := errors.Join(err, w.Record(record)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Flush(), z.Close(), out.Close()); err != nil {
		t.Fatal(err)
	}
}

// want fails for each fact of the account that the spans do not tell.
func (r *taking) want(told account) {
	r.t.Helper()
	for n, k := range told.Calls {
		spans := r.in(n + 1)
		miss := func(format string, args ...any) {
			r.t.Helper()
			r.t.Errorf("call %d, %s: %s", n+1, k.Command, fmt.Sprintf(format, args...))
		}
		has := func(holds func(*span.Span, span.Attrs) bool) bool {
			return slices.ContainsFunc(spans, func(s *span.Span) bool { return holds(s, span.Attrs(s.Attrs)) })
		}
		if !has(func(s *span.Span, a span.Attrs) bool {
			code, known := a.Int(span.KeyCallExitCode)
			return s.Kind == span.SessionCall && known && int(code) == k.Exit
		}) {
			miss("no exit code %d", k.Exit)
		}
		for _, line := range k.Programs {
			if !has(func(s *span.Span, a span.Attrs) bool {
				return s.Kind == span.Exec && strings.HasPrefix(a.Text(span.KeyCommandLine), line)
			}) {
				miss("no program %s", line)
			}
		}
		for _, file := range slices.Concat(k.Secrets, k.Refused) {
			refused := slices.Contains(k.Refused, file)
			if !has(func(s *span.Span, a span.Attrs) bool {
				return s.Kind == span.Open && a.Text(span.KeyFilePath) == file && a.Is(span.KeySensitive) && (a.Text(span.KeyOutcome) == "refused") == refused
			}) {
				miss("no %s, refused: %v", file, refused)
			}
		}
		for _, to := range k.Connects {
			if !has(func(s *span.Span, a span.Attrs) bool {
				port, _ := a.Int(span.KeyPeerPort)
				return s.Kind == span.Connect && strings.TrimSpace(fmt.Sprintf("%s:%d %s", a.Text(span.KeyPeerAddress), port, a.Text(span.KeyErrorType))) == to
			}) {
				miss("no connection to %s", to)
			}
		}
		for _, at := range k.Listens {
			if !has(func(s *span.Span, a span.Attrs) bool {
				port, _ := a.Int(span.KeyLocalPort)
				return s.Kind == span.Listen && fmt.Sprintf("%s:%d", a.Text(span.KeyLocalAddress), port) == at
			}) {
				miss("nobody listens at %s", at)
			}
		}
		for i := 0; i < len(k.Renamed); i += 2 {
			if !has(func(_ *span.Span, a span.Attrs) bool {
				return a.Text(span.KeyFileOperation) == "rename" && a.Text(span.KeyFileOldPath) == k.Renamed[i] && a.Text(span.KeyFilePath) == k.Renamed[i+1]
			}) {
				miss("%s was not renamed", k.Renamed[i])
			}
		}
		for _, file := range k.Outside {
			if !has(func(_ *span.Span, a span.Attrs) bool {
				return a.Text(span.KeyFilePath) == file && a.Is(span.KeyFileWrite)
			}) {
				miss("nobody wrote %s", file)
			}
		}
		var written []writing
		for _, s := range spans {
			if w, ok := writtenBy(s); ok {
				written = append(written, w)
			}
		}
		unseen := 0
		for _, file := range slices.Concat(k.Created, k.Modified, k.Deleted) {
			if !slices.ContainsFunc(written, func(w writing) bool { return w.tells(file) }) {
				if unseen++; unseen < 5 {
					miss("who changed %s?", file)
				}
			}
		}
	}
}

// A writing is what a span tells of files that were changed.
type writing struct {
	paths []string // of the span itself, and of what it names
	below string   // counted: all that is below this directory, which ends with a slash
}

func writtenBy(s *span.Span) (w writing, ok bool) {
	a := span.Attrs(s.Attrs)
	if !a.Is(span.KeyFileWrite) || a.Text(span.KeyOutcome) != "ok" {
		return w, false
	}
	w.paths = []string{a.Text(span.KeyFilePath), a.Text(span.KeyFileOldPath)}
	switch {
	case a.Is(span.KeyFolded):
		w.below = a.Text(span.KeyFilePath)
	case a.Text(span.KeyFileOperation) == "rename": // perhaps of a directory
		w.below = a.Text(span.KeyFilePath) + "/"
	}
	return w, true
}

func (w writing) tells(file string) bool {
	return slices.Contains(w.paths, file) || w.below != "" && strings.HasPrefix(file, w.below)
}

// sums are what adding up spans has to give, however they were folded: of each call, and for each thing that is counted.
func (r *taking) sums() map[string]int64 {
	sums := map[string]int64{}
	for _, s := range r.spans {
		a := span.Attrs(s.Attrs)
		call := a.Text(span.KeyCallID)
		for _, key := range []string{span.KeyNoiseOpens, span.KeyMissingOpens} {
			n, _ := a.Int(key)
			sums[call+" opens"] += n
		}
		n, counted := a.Int(span.KeyCount)
		switch {
		case s.Kind == span.Open && a.Text(span.KeyFileAccess) == "create":
			sums[call+" creates"] += n
			fallthrough
		case s.Kind == span.Open:
			sums[call+" opens"] += n
		case s.Kind == span.Change && !counted:
			sums[call+" "+a.Text(span.KeyFileOperation)+" "+a.Text(span.KeyOutcome)]++
		case s.Kind == span.Change:
			sums[call+" "+a.Text(span.KeyFileOperation)+" "+a.Text(span.KeyOutcome)] += n
		case s.Kind == span.SessionCall:
			for _, key := range []string{span.KeyFilesCreated, span.KeyFilesModified, span.KeyFilesDeleted, span.KeyFilesRenamed} {
				n, _ := a.Int(key)
				sums[call+" "+key] = n
			}
		}
	}
	return sums
}

// checkOrdinary holds a session to its account, as run and as sensor show it. slow is how much longer it may have taken
// than it does.
func checkOrdinary(t *testing.T, told account, slow int, open func() *capture.Reader) {
	everything := func(cc *collector.Config) {
		cc.Noise = []string{}
		cc.Fold = collector.Fold{Files: 1 << 20, CallFiles: 1 << 20, Window: cc.Fold.Window, Directories: 1 << 16, Missing: 1 << 20, Creates: 1 << 20}
	}
	c := config.Default()
	c.ForRules()
	want := as(t, open(), c, everything).sums()
	for _, mode := range []struct {
		name string
		set  func(*config.Config)
		most int // spans
	}{
		{"run", (*config.Config).ForPeople, 400},
		{"sensor", (*config.Config).ForRules, 2500},
	} {
		t.Run(mode.name, func(t *testing.T) {
			c := config.Default()
			mode.set(c)
			got := as(t, open(), c, nil)
			got.t = t
			if most := slow * mode.most; len(got.spans) > most {
				t.Errorf("%d spans, at most %d are to be read", len(got.spans), most)
			}
			var calls []string
			for n := range told.Calls {
				calls = append(calls, strconv.Itoa(len(got.in(n+1))))
			}
			t.Logf("%d spans; of the calls %s", len(got.spans), strings.Join(calls, ", "))
			got.want(told)
			sums := got.sums()
			for what, n := range want {
				if sums[what] != n {
					t.Errorf("%s: %d, and without folding %d", what, sums[what], n)
				}
			}
		})
	}
}

// Thirteen ordinary calls are few spans, and nothing that whoever did them knows of is missing.
func TestOrdinaryCallsAreFewSpansThatTellAll(t *testing.T) {
	t.Parallel()
	told, _ := openOrdinary(t)
	checkOrdinary(t, told, 1, func() *capture.Reader { _, r := openOrdinary(t); return r })
}

// The same, done anew on this machine.
func TestOrdinaryCallsAreFewSpansLive(t *testing.T) {
	needRoot(t)
	for _, name := range []string{"git", "node", "npm", "go", "curl", "setpriv"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skipf("needs %s", name)
		}
	}
	root, err := os.MkdirTemp("/srv", "sheetbend-ordinary-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(root) })
	if err := os.Chmod(root, 0o755); err != nil {
		t.Fatal(err)
	}
	told, raw := liveOrdinary(t, root)
	checkOrdinary(t, told, 3, func() *capture.Reader { // on a slow machine it has more windows
		f, err := os.Open(raw)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		r, err := capture.NewReader(f)
		if err != nil {
			t.Fatal(err)
		}
		return r
	})
}
