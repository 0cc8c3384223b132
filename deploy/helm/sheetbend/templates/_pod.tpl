{{- /* The image: by digest where one is given, for only that names one image for good. */ -}}
{{- define "sheetbend.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}{{ .repository }}@{{ .digest }}
{{- else -}}{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}{{- end -}}
{{- end -}}
{{- end -}}

{{- define "sheetbend.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- /* The port of the metrics, empty if nothing listens. */ -}}
{{- define "sheetbend.port" -}}
{{- with get (get .Values.config "metrics" | default dict) "listen" -}}{{ regexFind "[0-9]+$" . }}{{- end -}}
{{- end -}}

{{- define "sheetbend.security" -}}
privileged: {{ .Values.privileged }}
{{- if not .Values.privileged }}
allowPrivilegeEscalation: false
capabilities:
  drop: [ALL]
  add: {{ toJson .Values.capabilities }}
seccompProfile:
  type: RuntimeDefault
{{- end }}
readOnlyRootFilesystem: true
{{- end -}}

{{- define "sheetbend.mounts" -}}
- name: config
  mountPath: /etc/sheetbend
  readOnly: true
- name: cgroup
  mountPath: /sys/fs/cgroup
  readOnly: true
# As it is when the pod starts: to see later mounts, /sys would have to be a shared mount.
- name: bpf
  mountPath: /sys/fs/bpf
{{- if not .Values.privileged }}
# A privileged sensor mounts it for itself.
- name: tracefs
  mountPath: /sys/kernel/tracing
  readOnly: true
{{- end }}
- name: machine-id
  mountPath: /etc/machine-id
  readOnly: true
- name: run
  mountPath: /run/sheetbend
- name: state
  mountPath: /var/lib/sheetbend
{{- if .Values.recorder.size }}
- name: recorder
  mountPath: /var/lib/sheetbend-recorder
{{- end }}
{{- with .Values.secret }}
- name: secret
  mountPath: /etc/sheetbend-secret
  readOnly: true
{{- end }}
{{- range $i, $directory := .Values.runtimeDirectories }}
- name: runtime-{{ $i }}
  mountPath: {{ $directory }}
{{- end }}
{{- end -}}

{{- define "sheetbend.volumes" -}}
- name: config
  configMap:
    name: {{ .Release.Name }}
- name: cgroup
  hostPath:
    path: /sys/fs/cgroup
    type: Directory
- name: bpf
  hostPath:
    path: /sys/fs/bpf
    type: Directory
{{- if not .Values.privileged }}
- name: tracefs
  hostPath:
    path: /sys/kernel/tracing
    type: Directory
{{- end }}
- name: machine-id
  hostPath:
    path: /etc/machine-id
    type: File
- name: run
  hostPath:
    path: /run/sheetbend
    type: DirectoryOrCreate
- name: state
  hostPath:
    path: {{ .Values.stateDirectory }}
    type: DirectoryOrCreate
{{- with .Values.recorder }}
{{- if .size }}
- name: recorder
  {{- if .hostPath }}
  hostPath:
    path: {{ .hostPath }}
    type: DirectoryOrCreate
  {{- else }}
  emptyDir:
    sizeLimit: {{ .size }}
  {{- end }}
{{- end }}
{{- end }}
{{- with .Values.secret }}
- name: secret
  secret:
    secretName: {{ . }}
    defaultMode: 0400
{{- end }}
{{- range $i, $directory := .Values.runtimeDirectories }}
- name: runtime-{{ $i }}
  hostPath:
    path: {{ $directory }}
    type: DirectoryOrCreate
{{- end }}
{{- end -}}
