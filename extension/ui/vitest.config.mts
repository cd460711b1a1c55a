import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    environment: 'jsdom',
    environmentOptions: { jsdom: { url: 'http://127.0.0.1:8888/user/ada/lab' } },
    setupFiles: ['tests/setup.ts'],
    include: ['tests/**/*.test.ts']
  }
});
