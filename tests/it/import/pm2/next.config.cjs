const path = require('path');

module.exports = {
  apps: [
    {
      name: 'next',
      cwd: path.join(__dirname, 'web'), // the site
      script: 'npm',
      args: 'run start -- --port 3000',
      /* the secret comes from outside */
      env: { NODE_ENV: 'production', SECRET: process.env.SECRET, URL: process.env.URL || 'http://localhost' },
      exp_backoff_restart_delay: 100,
    },
  ],
};
