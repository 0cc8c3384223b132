// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sheetbend/sheetbend/collector"
	"github.com/sheetbend/sheetbend/collector/capture"
	"github.com/sheetbend/sheetbend/enrich/agents"
)

// patience is how long Chromium may take for one answer.
const patience = 30 * time.Second

// browser is a Chromium that is spoken to by the DevTools protocol over two pipes.
type browser struct {
	t       *testing.T
	to      *os.File
	mu      sync.Mutex
	next    int
	answers map[int]chan message
	tabs    map[string]*tab
	gone    chan struct{} // closed when it has ended
}

type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   *struct {
		Message string `json:"message"`
	} `json:"error,omitempty"`
}

// tab is a page in it.
type tab struct {
	*browser
	session string
	events  []message // guarded by mu
	loaded  chan struct{}
}

// chromium starts one, without a window.
func chromium(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Skip("needs chromium: make test-report installs it")
	}
	in, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	cmd := exec.Command(path, "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run",
		"--disable-background-networking", "--disable-component-update", "--disable-extensions", "--disable-dev-shm-usage",
		"--force-color-profile=srgb", "--hide-scrollbars", "--lang=en-GB", "--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{in, out} // 3 and 4
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = in.Close(), out.Close()
	b := &browser{t: t, to: to, answers: make(map[int]chan message), tabs: make(map[string]*tab), gone: make(chan struct{})}
	go b.read(from)
	t.Cleanup(func() {
		b.call("", "Browser.close", nil, nil)
		_ = cmd.Wait()
		<-b.gone
		_, _ = to.Close(), from.Close()
		if t.Failed() {
			t.Log(said.String())
		}
	})
	return b
}

func (b *browser) read(from *os.File) {
	defer close(b.gone)
	r := bufio.NewReader(from)
	for {
		raw, err := r.ReadBytes(0)
		if err != nil {
			return
		}
		var m message
		if json.Unmarshal(raw[:len(raw)-1], &m) != nil {
			continue
		}
		b.mu.Lock()
		if c := b.answers[m.ID]; m.ID != 0 && c != nil {
			delete(b.answers, m.ID)
			c <- m
		} else if page := b.tabs[m.Session]; page != nil {
			page.events = append(page.events, m)
			if m.Method == "Page.loadEventFired" {
				page.loaded <- struct{}{}
			}
		}
		b.mu.Unlock()
	}
}

// call asks Chromium, and reads its answer into result unless that is nil.
func (b *browser) call(session, method string, params, result any) {
	b.t.Helper()
	if params == nil {
		params = struct{}{}
	}
	raw, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	answer := make(chan message, 1)
	b.mu.Lock()
	b.next++
	m := message{ID: b.next, Session: session, Method: method, Params: raw}
	b.answers[m.ID] = answer
	b.mu.Unlock()
	raw, err = json.Marshal(m)
	if err == nil {
		_, err = b.to.Write(append(raw, 0))
	}
	if err != nil {
		b.t.Fatal(err)
	}
	select {
	case m = <-answer:
	case <-b.gone:
		return // of Browser.close
	case <-time.After(patience):
		b.t.Fatalf("%s: no answer", method)
	}
	if m.Error != nil {
		b.t.Fatalf("%s: %s", method, m.Error.Message)
	}
	if result != nil {
		if err := json.Unmarshal(m.Result, result); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
	}
}

// open opens a file, and gives how long that took: to the end of the script and the first picture.
func (b *browser) open(file string, width, height int, features ...map[string]string) (*tab, time.Duration) {
	b.t.Helper()
	var made struct {
		TargetID  string `json:"targetId"`
		SessionID string `json:"sessionId"`
	}
	b.call("", "Target.createTarget", map[string]any{"url": "about:blank"}, &made)
	b.call("", "Target.attachToTarget", map[string]any{"targetId": made.TargetID, "flatten": true}, &made)
	p := &tab{browser: b, session: made.SessionID, loaded: make(chan struct{}, 16)}
	b.mu.Lock()
	b.tabs[p.session] = p
	b.mu.Unlock()
	for _, domain := range []string{"Page", "Runtime", "Network", "Log", "Accessibility"} {
		p.do(domain+".enable", nil, nil)
	}
	p.do("Emulation.setDeviceMetricsOverride",
		map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false}, nil)
	p.do("Emulation.setEmulatedMedia", map[string]any{"features": append([]map[string]string{}, features...)}, nil)
	p.do("Emulation.setFocusEmulationEnabled", map[string]any{"enabled": true}, nil)
	p.do("Page.addScriptToEvaluateOnNewDocument", map[string]any{"source": `window.violated = [];
		document.addEventListener('securitypolicyviolation', (e) => violated.push(e.violatedDirective + ' ' + e.blockedURI));`}, nil)
	start := time.Now()
	p.do("Page.navigate", map[string]any{"url": "file://" + file}, nil)
	select {
	case <-p.loaded:
	case <-time.After(patience):
		b.t.Fatalf("%s is not loaded", file)
	}
	p.eval(`new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))`, nil)
	took := time.Since(start)
	var ready bool
	if p.eval(`document.documentElement.dataset.ready === 'yes'`, &ready); !ready {
		b.t.Fatal("the script did not reach its end:", p.said())
	}
	return p, took
}

func (p *tab) do(method string, params, result any) {
	p.t.Helper()
	p.call(p.session, method, params, result)
}

// eval reads the value of an expression, or of its promise.
func (p *tab) eval(script string, result any) {
	p.t.Helper()
	var answer struct {
		Result struct {
			Value json.RawMessage `json:"value"`
		} `json:"result"`
		Exception *struct {
			Text      string `json:"text"`
			Exception struct {
				Description string `json:"description"`
			} `json:"exception"`
		} `json:"exceptionDetails"`
	}
	p.do("Runtime.evaluate", map[string]any{"expression": script, "returnByValue": true, "awaitPromise": true}, &answer)
	if e := answer.Exception; e != nil {
		p.t.Fatalf("%s: %s %s", script, e.Text, e.Exception.Description)
	}
	if result != nil {
		if err := json.Unmarshal(answer.Result.Value, result); err != nil {
			p.t.Fatalf("%s: %q: %v", script, answer.Result.Value, err)
		}
	}
}

// text is the value of an expression as a string.
func (p *tab) text(script string) (s string) {
	p.t.Helper()
	p.eval("String("+script+")", &s)
	return s
}

// want waits until an expression has a value.
func (p *tab) want(script, value string) {
	p.t.Helper()
	var got string
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		if got = p.text(script); got == value {
			return
		}
		p.eval(`new Promise(requestAnimationFrame)`, nil)
	}
	p.t.Errorf("%s is %q, not %q", script, got, value)
}

var keyCodes = map[string]int{
	"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35,
}

// keys presses keys, by their name or, of other texts, by each letter.
func (p *tab) keys(names ...string) {
	p.t.Helper()
	for _, name := range names {
		code, named := keyCodes[name]
		letters := []string{name}
		if !named {
			letters = strings.Split(name, "")
		}
		for _, key := range letters {
			down := map[string]any{"type": "keyDown", "key": key, "windowsVirtualKeyCode": code}
			if !named {
				down["text"] = key
			} else if name == "Enter" {
				down["text"] = "\r"
			}
			p.do("Input.dispatchKeyEvent", down, nil)
			p.do("Input.dispatchKeyEvent", map[string]any{"type": "keyUp", "key": key, "windowsVirtualKeyCode": code}, nil)
		}
	}
}

// of are the events of a kind.
func (p *tab) of(method string) (list []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range p.events {
		if m.Method == method {
			list = append(list, string(m.Params))
		}
	}
	return list
}

// said is what the console and the log have.
func (p *tab) said() string {
	var all []string
	for _, method := range []string{"Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"} {
		all = append(all, p.of(method)...)
	}
	return strings.Join(all, "\n")
}

// picture writes what the page looks like, as a PNG.
func (p *tab) picture(file string) {
	p.t.Helper()
	var shot struct {
		Data string `json:"data"`
	}
	p.do("Page.captureScreenshot", map[string]any{"format": "png"}, &shot)
	png, err := base64.StdEncoding.DecodeString(shot.Data)
	if err == nil {
		err = os.WriteFile(file, png, 0o644)
	}
	if err != nil {
		p.t.Fatal(err)
	}
}

// clean holds that the page loaded nothing, ran no other script and showed no dialog.
func (p *tab) clean() {
	p.t.Helper()
	requests := p.of("Network.requestWillBeSent")
	if len(requests) != 1 || !strings.Contains(requests[0], `"url":"file:///`) {
		p.t.Errorf("requests: %s", strings.Join(requests, "\n"))
	}
	if dialogs := p.of("Page.javascriptDialogOpening"); dialogs != nil {
		p.t.Error("dialogs:", dialogs)
	}
	p.want("violated.join()", "")
	if said := p.said(); said != "" {
		p.t.Error("the console has", said)
	}
}

// report writes the report of spans to a file.
func (r *Report) file(t *testing.T) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "report.html")
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Write(f), f.Close()); err != nil {
		t.Fatal(err)
	}
	return file
}

// openAll opens all there is, also what is built only then.
const openAll = `(() => {
	for (let round = 0; round < 5; round++) {
		document.querySelectorAll('.entry button[aria-expanded=false]').forEach((b) => b.click());
		document.querySelectorAll('details').forEach((d) => { d.open = true; d.dispatchEvent(new Event('toggle')); });
		document.querySelectorAll('[role=treeitem]').forEach((i) => { if (i.open) i.open(true); });
	}
	document.querySelectorAll('[role=treeitem]').forEach((i) => { if (!i.querySelector(':scope > .panel')) i.act(); });
	return document.querySelectorAll('*').length;
})()`

func TestInChromiumAHostileSessionInjectsNothing(t *testing.T) {
	b := chromium(t)
	r := hostile()
	p, _ := b.open(r.file(t), 1280, 900)
	var elements int
	p.eval(openAll, &elements)
	if elements < 300 {
		t.Errorf("%d elements: not all is open", elements)
	}
	p.want("typeof pwned", "undefined")
	p.want("document.scripts.length", "1")
	p.want("document.querySelectorAll('img,iframe,object,embed,link,base,form,svg,video,[onerror],[onclick]').length", "0")
	if n := strings.Count(p.text("document.body.textContent"), "<img src=x onerror=pwned=1>"); n < 8 {
		t.Errorf("the name is shown %d times", n)
	}
	p.want(`/[\u0000-\u0008\u000e-\u001f\u202a-\u202e\u2066-\u2069]/.test(document.body.textContent)`, "false")
	p.clean()

	// What could be injected would be seen.
	p.eval(`document.body.insertAdjacentHTML('beforeend', '<img src="http://192.0.2.1/x" onerror="pwned=1"><style>b{}</style>')`, nil)
	p.want("violated.length >= 3", "true")
	p.want("typeof pwned", "undefined")
}

func TestInChromiumTwentyThousandSpansOpenInTwoSeconds(t *testing.T) {
	b := chromium(t)
	file := large().file(t)
	p, took := b.open(file, 1280, 900)
	t.Logf("opened in %s", took)
	if took > 2*time.Second {
		t.Errorf("it took %s to open", took)
	}
	p.want("document.querySelectorAll('.calls > li').length", "20")
	step := func(what, script string, most time.Duration) {
		t.Helper()
		start := time.Now()
		p.eval(script+`; new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))`, nil)
		t.Logf("%s in %s", what, time.Since(start))
		if took := time.Since(start); took > most {
			t.Errorf("%s took %s", what, took)
		}
	}
	step("a call", `document.querySelector('.calls button').click()`, 2*time.Second)
	start := time.Now()
	p.keys("/", "file-19-777")
	p.want("document.getElementById('status').textContent", "1 match in 1 call")
	t.Logf("searched in %s", time.Since(start))
	p.want("Array.from(document.querySelectorAll('.calls > li')).filter((x) => !x.hidden).length", "1")
	p.keys("Escape")
	p.want("document.getElementById('status').textContent", "")
	step("all calls", `document.querySelectorAll('.calls button[aria-expanded=false]').forEach((b) => b.click())`, 10*time.Second)
	p.clean()
}

func TestInChromiumTheKeyboardReachesAll(t *testing.T) {
	b := chromium(t)
	p, _ := b.open(small().file(t), 1280, 900)
	at := func(want string) {
		t.Helper()
		p.want(`(document.activeElement.getAttribute('aria-label') || document.activeElement.id || document.activeElement.textContent)`, want)
	}
	p.keys("/")
	at("find")
	p.keys("id_rsa")
	p.want("document.getElementById('status').textContent", "2 matches in 1 call") // the program, and what it read
	p.keys("Escape")
	p.want("document.getElementById('status').textContent", "")
	p.want("document.getElementById('find').value", "")
	p.keys("Tab")
	at("Secrets")
	p.keys(" ")
	p.want("document.activeElement.getAttribute('aria-pressed')", "true")
	p.want("Array.from(document.querySelectorAll('.calls > li')).filter((x) => !x.hidden).length", "1")
	p.keys("Escape")
	p.want("document.activeElement.getAttribute('aria-pressed')", "false")
	p.keys("Tab", "Tab", "Tab", "Tab")
	at("read /home/a/.ssh/id_rsa") // what to look at first
	p.keys("Enter")
	at("cat ~/.ssh/id_rsa") // the call that did it
	p.want("document.activeElement.getAttribute('aria-expanded')", "true")
	p.keys("ArrowUp")
	at("make test")
	p.keys("End")
	at("What the agent did by itself")
	p.keys("Home", "ArrowRight")
	p.want("document.activeElement.getAttribute('aria-expanded')", "true")
	for i := 0; p.text(`document.activeElement.getAttribute('role')`) != "treeitem"; i++ {
		if i > 10 {
			t.Fatal("the tree is not reached")
		}
		p.keys("Tab")
	}
	at("make test, exit 2, pid 20")
	p.keys("ArrowDown")
	at("create /w/out.txt")
	p.keys("End")
	at("read /w/a.c")
	p.keys("ArrowLeft")
	at("cc -c a.c, exit 0, pid 22")
	p.keys("ArrowLeft", "ArrowLeft")
	at("make test, exit 2, pid 20")
	p.keys("ArrowLeft")
	p.want("document.activeElement.getAttribute('aria-expanded')", "false")
	p.keys("ArrowRight", "ArrowRight", "Enter")
	at("create /w/out.txt")
	p.want("document.activeElement.querySelector('.panel') !== null", "true")
	p.keys("Escape")
	at("make test")
	p.want("document.activeElement.getAttribute('aria-expanded')", "false")
}

func TestInChromiumAScreenReaderIsToldAll(t *testing.T) {
	b := chromium(t)
	p, _ := b.open(small().file(t), 1280, 900)
	p.eval(openAll, nil)
	var tree struct {
		Nodes []struct {
			Ignored bool `json:"ignored"`
			Role    struct {
				Value string `json:"value"`
			} `json:"role"`
			Name struct {
				Value string `json:"value"`
			} `json:"name"`
		} `json:"nodes"`
	}
	p.do("Accessibility.getFullAXTree", nil, &tree)
	count := make(map[string]int)
	for _, n := range tree.Nodes {
		if n.Ignored {
			continue
		}
		count[n.Role.Value]++
		switch n.Role.Value {
		case "button", "link", "searchbox", "textbox", "treeitem", "tree", "heading", "table", "columnheader", "group",
			"DisclosureTriangle", "search":
			if strings.TrimSpace(n.Name.Value) == "" && n.Role.Value != "group" {
				t.Errorf("a %s has no name", n.Role.Value)
			}
		}
	}
	for _, role := range []string{"banner", "main", "search", "contentinfo", "searchbox", "status", "heading", "tree", "treeitem", "table", "button", "list", "time"} {
		if count[role] == 0 {
			t.Errorf("there is no %s: %v", role, count)
		}
	}
	for role, want := range map[string]int{"banner": 1, "main": 1, "search": 1, "contentinfo": 1} {
		if count[role] != want {
			t.Errorf("%d of role %s", count[role], role)
		}
	}
	// No level of headings is left out.
	p.want(`Array.from(document.querySelectorAll('h1,h2,h3,h4,[role=heading]')).map((h) => +(h.getAttribute('aria-level') || h.tagName[1]))
		.every((l, i, all) => i === 0 ? l === 1 : l <= all[i - 1] + 1)`, "true")
}

// contrast gives the texts that are hard to read: below 4.5 to 1 (WCAG AA).
const contrast = `(() => {
	const parse = (c) => (c.match(/[\d.]+/g) || []).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((v) => (v /= 255, v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
	const bad = new Set();
	const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	while (walk.nextNode()) {
		const e = walk.currentNode.parentElement;
		if (!walk.currentNode.data.trim() || !e.checkVisibility() || e.closest('script,noscript,.skip,.hidden')) continue;
		let under = e, back;
		do { back = parse(getComputedStyle(under).backgroundColor); under = under.parentElement; } while (under && back[3] === 0);
		const [a, b] = [light(parse(getComputedStyle(e).color)), light(back)];
		const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
		if (ratio < 4.5) bad.add(e.className + ' ' + e.parentElement.className + ' ' + ratio.toFixed(2));
	}
	return Array.from(bad).join('; ');
})()`

func TestInChromiumItIsReadable(t *testing.T) {
	b := chromium(t)
	file := small().file(t)
	dir := os.Getenv("SHEETBEND_PICTURES") // to look at them
	for _, v := range []struct {
		name  string
		width int
		media map[string]string
	}{
		{"light", 1280, nil},
		{"dark", 1280, map[string]string{"name": "prefers-color-scheme", "value": "dark"}},
		{"narrow", 380, nil},
	} {
		features := []map[string]string{}
		if v.media != nil {
			features = append(features, v.media)
		}
		p, _ := b.open(file, v.width, 1000, features...)
		p.want(contrast, "")
		if dir != "" {
			p.picture(filepath.Join(dir, v.name+".png"))
		}
		p.eval(openAll, nil)
		p.want(contrast, "")
		p.want("document.scrollingElement.scrollWidth <= innerWidth", "true")
		if dir != "" {
			p.eval("document.querySelector('.calls > li').scrollIntoView()", nil)
			p.picture(filepath.Join(dir, v.name+"-open.png"))
		}
		p.clean()
	}
	p, _ := b.open(file, 1280, 900)
	p.eval(openAll, nil)
	var pdf struct {
		Data string `json:"data"`
	}
	p.do("Page.printToPDF", map[string]any{"preferCSSPageSize": true}, &pdf)
	raw, err := base64.StdEncoding.DecodeString(pdf.Data)
	if err != nil || !bytes.HasPrefix(raw, []byte("%PDF-")) {
		t.Fatalf("%d bytes, %v", len(raw), err)
	}
	if dir != "" {
		if err := os.WriteFile(filepath.Join(dir, "print.pdf"), raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

var update = flag.Bool("update", false, "write docs/report.png anew")

// TestInChromiumARecordedSession shows one of Claude Code, which the collector has made the spans of.
func TestInChromiumARecordedSession(t *testing.T) {
	packed, err := os.Open("../../testdata/agents/claude-code.capture.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	z, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	in, err := capture.NewReader(z)
	if err != nil {
		t.Fatal(err)
	}
	r := New("test")
	config := in.Header().Config
	config.Agents = agents.Builtin() // of today
	c, err := collector.New(config, r)
	if err != nil {
		t.Fatal(err)
	}
	for {
		raw, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		_ = c.Record(raw)
	}
	c.Close()
	b := chromium(t)
	p, _ := b.open(r.file(t), 1280, 1400)
	p.want("document.querySelectorAll('.calls > li').length", "5")
	failed := "Array.from(document.querySelectorAll('.calls > li')).filter((x) => x.querySelector('.badge').textContent === 'exit 7')"
	p.want(failed+".length", "1")
	p.eval(failed+"[0].querySelector('button').click()", nil)
	if *update {
		p.picture("../../docs/report.png")
	}
	p.want(contrast, "")
	p.clean()
}
