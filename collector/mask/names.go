// SPDX-License-Identifier: Apache-2.0

package mask

// meaning is what a name says of its value.
type meaning uint8

const (
	ordinary   meaning = iota
	aKey               // a secret if it looks random: "key" may be anything
	aCode              // a secret if it has at least four digits, or looks random: pins, one-time passwords
	anAuth             // user:secret, or something random; else the name of a method
	aSecret            // a secret unless the value is none
	aPassword          // the same, and may be any word
	aHeader            // Authorization: a scheme, then the secret
	aCookie            // name=secret; …
	aPassWhere         // pass:secret, env:NAME, file:path, as openssl has it
)

// ending is how names of secrets end, without separators, in lower case.
type ending struct {
	text string
	word bool // only as a word of its own: "pin" is none of "spin"
	meaning
}

// endings by their last letter. The longest that fits counts, so that some are here which mean nothing.
var endings = func() (table ['z' + 1][]ending) {
	add := func(m meaning, word bool, texts ...string) {
		for _, text := range texts {
			last := text[len(text)-1]
			table[last] = append(table[last], ending{text, word, m})
		}
	}
	add(aPassword, false, "password", "passwd", "passphrase", "passcode", "passwort", "passwrd", "pword", "pwd",
		"passw", "pswd")
	add(aPassword, false, "pass", "pw")
	add(aPassword, true, "psw", "psk", "motdepasse", "senha", "contrasena", "mdp", "kennwort")
	add(aPassword, false, "wpapsk", "presharedkey", "masterauth", "securestring", "passwordhash", "passwordvalue",
		"passwordplaintext", "unlockcode")
	add(aSecret, false, "secret", "token", "apikey", "accesskey", "secretkey", "privatekey", "privkey", "accountkey",
		"sharedkey", "authkey", "signingkey", "signkey", "encryptionkey", "encryptkey", "decryptionkey", "masterkey",
		"subscriptionkey", "licensekey", "licencekey", "sessionkey", "servicekey", "servicerolekey", "hmackey",
		"aeskey", "cryptokey", "appkey", "applicationkey", "adminkey", "writekey", "integrationkey", "webhookkey",
		"recoverykey", "functionkey", "storagekey", "securitykey", "clientkey", "consumerkey", "serverkey", "ingestkey",
		"ingestionkey", "insertkey", "restkey", "passkey", "gossipkey", "joinkey", "sealkey", "rootkey", "agentkey",
		"enrollmentkey", "registrationkey", "activationkey", "setupkey", "devicekey", "secretkeybase", "jwtkey",
		"credential", "credentials", "creds", "encryptedvalue", "keycontent", "keymaterial", "secretvalue",
		"secretstring", "tokenvalue", "secrethash", "secrettext", "secretdata", "secretbinary", "mnemonic",
		"seedphrase", "recoveryphrase", "mnemonicphrase", "apitokenkey", "xsrf", "authcookie", "sessioncookie",
		"pushkey", "plexkey", "dkimkey", "tsigkey", "wepkey", "wepkey0", "botkey", "apicode", "apipass")
	add(aSecret, true, "jwt", "sas", "bearer", "community", "rocommunity", "rwcommunity", "pat", "cred", "seckey",
		"tok", "pkey")
	add(aCode, true, "pin", "otp", "totp", "mfa", "cvv", "cvc")
	add(aCode, false, "pincode", "mfacode", "otpcode", "verificationcode", "authcode", "puk", "twofactorcode",
		"smscode", "2fa", "authorizationcode", "onetimepassword", "secretid", "mfatoken", "tokencode", "otptoken",
		"codeverifier")
	add(aKey, true, "appid", "key", "sig", "signature", "seed", "sid", "code", "salt", "hmac", "nonce", "assertion",
		"ticket", "verifier")
	add(aKey, false, "sessionid", "webhook", "webhookurl", "keydata", "sharedsecretid", "keyhex", "keybase64", "keyb64",
		"clientassertion", "samlresponse", "keystring", "wifikey", "keypair", "userkey", "deploykey", "routingkey",
		"projectkey", "sshkey", "publishkey", "kmskey", "basekey")
	add(anAuth, true, "auth", "basicauth", "httpauth", "proxyauth", "userpwd", "creds", "basic", "logins")
	add(anAuth, false, "authcredentials", "userandpassword", "usercredentials")
	add(aHeader, false, "authorization")
	add(aCookie, false, "cookie")
	add(aPassWhere, false, "passin", "passout")
	// Names that end alike and are none.
	add(ordinary, false, "publickey", "pubkey", "primarykey", "partitionkey", "sortkey", "foreignkey", "cachekey",
		"idempotencykey", "objectkey", "groupkey", "rowkey", "hashkey", "rangekey", "indexkey", "registrykey", "gpgkey",
		"pgpkey", "hostkey", "imagekey", "searchkey", "lookupkey", "fingerprintkey", "statekey", "labelkey", "tagkey",
		"restorekey", "dedupkey", "aptkey", "nexttoken", "pagetoken", "startingtoken", "continuationtoken",
		"clientrequesttoken", "clienttoken", "maxtoken", "maxnewtoken", "mintoken", "eostoken", "bostoken", "padtoken",
		"stoptoken", "masktoken", "septoken", "clstoken", "unktoken", "imagetoken", "numtoken", "pertoken",
		"existingsecret", "pullsecret", "tlssecret", "certsecret", "secretnamesecret", "idtokensecret", "bypass",
		"compass", "surpass", "trespass", "underpass", "overpass", "onepass", "twopass", "multipass", "singlepass",
		"askpass", "firstpass", "secondpass", "proxypass", "trypass", "testpass", "ispass", "speedpass", "npass",
		"lastpass", "renderpass", "lowpass", "highpass", "bandpass", "allpass", "shouldpass", "nopass", "keepass",
		"subpass", "oldpwd", "cmdpwd", "exitcode", "statuscode", "errorcode", "returncode", "zipcode", "postalcode",
		"countrycode", "langcode", "httpcode", "responsecode", "sourcecode", "bytecode", "opcode", "keycode", "unicode",
		"barcode", "qrcode", "rccode", "encode", "decode", "loadcredential", "commitsig", "usersigningkey", "publickeytoken",
		"csrfcookie", "usecookie", "savecookie", "loadcookie", "insertcookie", "unauth", "noauth", "useauth",
		"requireauth", "randomseed", "processsid", "accountsid", "swarmkey", "jobtoken", "imagepullcreds", "withcreds",
		"withcredentials", "allowcredentials", "usecredentials", "sharedcredentials", "authtypebasic", "visualbasic",
		"synctoken", "resumetoken", "changetoken", "deltatoken", "pagingtoken", "cursortoken", "fencetoken",
		"readpreferencetoken")
	return table
}()

const (
	shortestEnding = len("pw")
	longestName    = 64 // of what is looked at of a name, in bytes, from its end
)

// meaningOf looks at the end of a name: dbPassword, DB_PASSWORD_2, --db.password. It is asked at every = and :, so most
// names have to be told by their last letter.
func meaningOf(name string) meaning {
	if len(name) > longestName {
		name = name[len(name)-longestName:]
	}
	for len(name) > 0 && !letter(name[len(name)-1]) {
		name = name[:len(name)-1] // password2, token_
	}
	if len(name) < shortestEnding {
		return ordinary
	}
	candidates := endings[name[len(name)-1]|0x20]
	if len(candidates) == 0 {
		return ordinary
	}
	var squeezed [longestName]byte
	var starts uint64 // of words in squeezed
	n := 0
	start := true
	for i := 0; i < len(name); i++ {
		b := name[i]
		switch {
		case upper(b):
			if i > 0 && (lower(name[i-1]) || i+1 < len(name) && lower(name[i+1]) && upper(name[i-1])) {
				start = true
			}
			b |= 0x20
		case lower(b):
		case '0' <= b && b <= '9':
		default:
			start = true
			continue
		}
		if start {
			starts |= 1 << n
			start = false
		}
		squeezed[n] = b
		n++
	}
	whole := squeezed[:n]
	var best *ending
	for i := range candidates {
		e := &candidates[i]
		from := n - len(e.text)
		if from < 0 || best != nil && len(best.text) >= len(e.text) || string(whole[from:]) != e.text {
			continue
		}
		if e.word && from > 0 && starts&(1<<from) == 0 && !('0' <= whole[from-1] && whole[from-1] <= '9') {
			continue
		}
		best = e
	}
	if best == nil || string(whole) == "pat" && name[0] != '-' { // a pattern, as often as a personal access token
		return ordinary
	}
	return best.meaning
}

// asks is true of options that have no value although they are named for a secret: --ask-pass, --no-token.
func asks(option string) bool {
	for len(option) > 0 && option[0] == '-' {
		option = option[1:]
	}
	end := 0
	for end < len(option) && letter(option[end]) && (end == 0 || !upper(option[end]) || upper(option[0])) {
		end++
	}
	if end == len(option) {
		return false
	}
	switch foldedWord(option[:end]) {
	case "ask", "no", "prompt", "show", "use", "with", "print", "hide", "require", "skip", "generate", "gen", "force",
		"allow", "enable", "disable",
		"get", "list", "delete", "is", "has", "include", "verify", "without", "ignore", "reveal", "display", "mask",
		"random", "save", "set", "put", "join", "clear", "update", "reset", "add", "unset",
		"export", "revoke", "check", "rotate", "needs", "read", "change", "remove", "create", "keep", "validate",
		"always", "never":
		return true
	}
	return false
}

// foldedWord is strings.ToLower for short words; most are in lower case.
func foldedWord(w string) string {
	for i := 0; i < len(w); i++ {
		if upper(w[i]) {
			b := []byte(w)
			for j := i; j < len(b); j++ {
				if upper(b[j]) {
					b[j] |= 0x20
				}
			}
			return string(b)
		}
	}
	return w
}

func upper(b byte) bool  { return 'A' <= b && b <= 'Z' }
func lower(b byte) bool  { return 'a' <= b && b <= 'z' }
func digit(b byte) bool  { return '0' <= b && b <= '9' }
func letter(b byte) bool { return lower(b | 0x20) }

func tokenByte(b byte) bool {
	return letter(b) || digit(b) || b == '_' || b == '-'
}

func nameByte(b byte) bool {
	return tokenByte(b) || b == '.'
}
