module.exports = {
  apps: [{
    name: 'detector',
    script: 'detect.py',
    interpreter: '/opt/venv/bin/python',
    interpreter_args: '-u',
    args: ['--camera', 0, '--label', 'front door'],
    cwd: '/opt/detector',
    namespace: 'vision',
    uid: 'nobody',
    gid: 'nogroup',
    stop_exit_codes: [0],
  }, {
    name: 'tracker',
    script: 'track.py',
    namespace: 'vision',
    autorestart: false,
    treekill: false,
  }]
}
